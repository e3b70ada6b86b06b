"""What users call the two kinds, as kubectl takes it: `training`, `dt`, `diffusiontrainings.diffusion.dev`. Pure."""

from collections.abc import Sequence

from diffusion_contract.names import GROUP, VERSION

SHORT_NAMES = {"training": "dt", "service": "dsv"}
_SUFFIXES = (f".{VERSION}.{GROUP}", f".{GROUP}")


class Unclear(ValueError):
    """The words name no one thing; the message says how to write it."""


def kind_of(word: str) -> str | None:
    """`training` or `service`; None where the word means neither."""
    bare = word.lower()
    for suffix in _SUFFIXES:
        bare = bare.removesuffix(suffix)
    for kind, short in SHORT_NAMES.items():
        if bare in (short, kind, f"{kind}s", f"diffusion{kind}", f"diffusion{kind}s"):
            return kind
    return None


def kind_and_name(words: Sequence[str], kind: str | None) -> tuple[str | None, str]:
    """What `NAME`, `KIND NAME` or `KIND/NAME` means; `kind` is the one that an option asks for. Raises Unclear."""
    if len(words) == 1 and words[0].count("/") == 1:
        words = words[0].split("/")
    *said, name = words
    if len(said) > 1 or "/" in name or not name:
        raise Unclear("name one thing, as NAME, KIND NAME or KIND/NAME")
    if not said:
        return kind, name
    found = kind_of(said[0])
    if found is None:
        raise Unclear(f"{said[0]!r} is no kind: write training (dt) or service (dsv), or the name alone")
    if kind not in (None, found):
        raise Unclear(f"{said[0]!r} and --kind {kind} are two kinds: leave one of them out")
    return found, name
