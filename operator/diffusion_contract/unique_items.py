"""Lists in which a name stands once: which of two would count, nobody could say."""

from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")


def once(*names: str) -> Callable[[tuple[Item, ...]], tuple[Item, ...]]:
    """A validator of a list whose items differ in the fields `names`: each of their values may stand once."""

    def validate(items: tuple[Item, ...]) -> tuple[Item, ...]:
        keys = [" with ".join(str(getattr(item, name)) for name in names) for item in items]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise ValueError(f"{key} stands twice: remove one of them")
        return items

    return validate
