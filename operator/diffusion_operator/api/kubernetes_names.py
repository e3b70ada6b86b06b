"""Names as Kubernetes writes them."""

from typing import Annotated

from pydantic import AfterValidator, Field

from diffusion_contract.text_form import TextForm

_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{_NAME}(\.{_NAME})*"
QUALIFIED_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUALIFIED = rf"({SUBDOMAIN}/)?{QUALIFIED_NAME}"
_KEY_MISFIT = (
    "a key is a name of at most 63 letters, digits, -, _ and ., with an optional prefix such as example.org/: "
    "correct it"
)
_KEY = TextForm(rf"^{_QUALIFIED}$", _KEY_MISFIT)
KEY_OR_EMPTY = TextForm(rf"^({_QUALIFIED})?$", _KEY_MISFIT)


def dns_label(pattern: str, example: str) -> TextForm:
    """The form of a name that stands in the names of other objects, with one that a user could write."""
    return TextForm(
        pattern,
        "a name is made of lower-case letters, digits and -, with a letter or digit at both ends, for example "
        f"{example}: correct it",
    )


SUBDOMAIN_FORM = TextForm(
    rf"^{SUBDOMAIN}$",
    "a name is made of lower-case letters, digits, - and ., with a letter or digit at both ends, for example "
    "digits-models: correct it",
)

ObjectName = Annotated[str, Field(min_length=1, max_length=253), SUBDOMAIN_FORM]
"""Name of a ConfigMap, a Secret, a claim and the like (RFC 1123 subdomain)."""

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    TextForm(
        r"^[^\s]+$", "an image is a name without blanks, for example registry.example.org/team/image:1.0: correct it"
    ),
]
"""A container image by name."""

LabelKey = Annotated[str, Field(min_length=1, max_length=316), _KEY]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    TextForm(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "a value is made of letters, digits, -, _ and ., with a letter or digit at both ends, for example gpu-a100: "
        "correct it",
    ),
]


def keys_are_qualified(labels: dict[str, str]) -> dict[str, str]:
    """`labels`; ValueError where one of the keys could not be that of a label."""
    for key in labels:
        _KEY.check(key)
    return labels


NodeLabels = Annotated[dict[str, LabelValue], Field(max_length=16), AfterValidator(keys_are_qualified)]
"""Labels that a node must have."""
