"""Kubernetes quantities (`250m`, `64Mi`, `1e3`) as exact numbers."""

import math
import re
from decimal import Decimal

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
SUFFIXES = {
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
}


def parse_quantity(text: str) -> Decimal:
    """The amount in its base unit (cores, bytes, pieces); ValueError for what is no quantity."""
    for suffix, factor in SUFFIXES.items():
        if text.endswith(suffix):
            number, scale = text.removesuffix(suffix), factor
            break
    else:
        number, scale = text, Decimal(1)
    if not NUMBER.fullmatch(number):
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(number) * scale


def in_units_of(amount: Decimal, divisor: Decimal) -> int:
    """`amount / divisor` rounded up, as resourceFieldRef does."""
    return math.ceil(amount / divisor)
