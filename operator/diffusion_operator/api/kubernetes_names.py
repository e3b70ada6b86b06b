"""Names as Kubernetes writes them, and lists in which a name stands once."""

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

Item = TypeVar("Item")

_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{_NAME}(\.{_NAME})*"
QUALIFIED_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
SUBDOMAIN_PATTERN = rf"^{SUBDOMAIN}$"
QUALIFIED_PATTERN = rf"^({SUBDOMAIN}/)?{QUALIFIED_NAME}$"
LABEL_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
"""Name of a ConfigMap, a Secret, a claim and the like (RFC 1123 subdomain)."""

Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s]+$")]
"""A container image by name."""

LabelKey = Annotated[str, Field(min_length=1, max_length=316, pattern=QUALIFIED_PATTERN)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_PATTERN)]

_KEY_MISFIT = (
    "a key is a name of at most 63 letters, digits, -, _ and ., with an optional prefix such as example.org/: "
    "correct it"
)


def keys_are_qualified(labels: dict[str, str]) -> dict[str, str]:
    """`labels`; ValueError where one of the keys could not be that of a label."""
    if any(re.search(QUALIFIED_PATTERN, key) is None for key in labels):
        raise ValueError(_KEY_MISFIT)
    return labels


NodeLabels = Annotated[dict[str, LabelValue], Field(max_length=16), AfterValidator(keys_are_qualified)]
"""Labels that a node must have."""


def once(*names: str) -> Callable[[tuple[Item, ...]], tuple[Item, ...]]:
    """A validator of a list whose items differ in the fields `names`: each of their values may stand once."""

    def validate(items: tuple[Item, ...]) -> tuple[Item, ...]:
        keys = [" with ".join(str(getattr(item, name)) for name in names) for item in items]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"{key} stands twice: remove one of them")
        return items

    return validate
