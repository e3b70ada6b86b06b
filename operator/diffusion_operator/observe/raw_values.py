"""Reading raw Kubernetes objects without ever raising: what is not there, or is of another type, reads as nothing."""

from collections.abc import Iterator, Mapping

from diffusion_operator.observe.snapshot import Raw

EMPTY: Raw = {}


def mapping_at(raw: object, *path: str) -> Raw:
    """The mapping at `path` inside `raw`; empty where there is none."""
    found = value_at(raw, *path)
    return found if isinstance(found, Mapping) else EMPTY


def value_at(raw: object, *path: str) -> object:
    """The value at `path` inside `raw`; None where there is none."""
    for key in path:
        if not isinstance(raw, Mapping):
            return None
        raw = raw.get(key)
    return raw


def text_at(raw: object, *path: str) -> str:
    """The string at `path` inside `raw`; empty where there is none."""
    found = value_at(raw, *path)
    return found if isinstance(found, str) else ""


def integer_at(raw: object, *path: str) -> int | None:
    """The integer at `path` inside `raw`; None where there is none."""
    found = value_at(raw, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def mappings_at(raw: object, *path: str) -> Iterator[Raw]:
    """The mappings in the list at `path` inside `raw`."""
    found = value_at(raw, *path)
    for item in found if isinstance(found, list | tuple) else ():
        if isinstance(item, Mapping):
            yield item


def condition_of(raw: Raw, kind: str) -> Raw:
    """The condition of type `kind` in the object's status; empty where there is none."""
    return next((c for c in mappings_at(raw, "status", "conditions") if c.get("type") == kind), EMPTY)


def label_of(raw: Raw, label: str) -> str:
    """A label of the object; empty where it has none."""
    return text_at(raw, "metadata", "labels", label)


def decimal_label(raw: Raw, label: str) -> int | None:
    """A label that holds a number; None where it does not."""
    text = label_of(raw, label)
    return int(text) if text.isascii() and text.isdecimal() else None
