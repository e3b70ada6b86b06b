"""Kubernetes quantities as exact numbers: `500m` is 0.5, `20Gi` is 21474836480."""

import re
from decimal import Decimal

QUANTITY_PATTERN = r"^([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2}|[KMGTPE]i|[munkMGTPE])?$"
"""Those that a spec may name: not negative, and with an exponent of at most two digits."""

_QUANTITY = re.compile(r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,4}|[KMGTPE]i|[numkMGTPE]|)$")
_SUFFIX = {
    **{
        suffix: Decimal(1000) ** power
        for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}


def quantity_value(quantity: object) -> Decimal | None:
    """The number that a quantity (text or integer) stands for; None where it is none."""
    match = _QUANTITY.match(str(quantity))
    if match is None:
        return None
    number, suffix = match.groups()
    return Decimal(number) * _SUFFIX[suffix] if suffix in _SUFFIX else Decimal(number + suffix)
