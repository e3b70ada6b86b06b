"""Kubernetes quantities."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.node.quantity import SUFFIXES, in_units_of, parse_quantity


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("2", 2), ("250m", "0.25"), ("64Mi", 64 * 2**20), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30)],
)
def test_amounts(text: str, amount: float | str) -> None:
    assert parse_quantity(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "Mi", "abc", "1 Mi", "1KiB"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**9), st.sampled_from(sorted(SUFFIXES)))
def test_a_suffix_is_a_factor(number: int, suffix: str) -> None:
    assert parse_quantity(f"{number}{suffix}") == number * SUFFIXES[suffix]


@given(st.decimals(0, 10**6, places=3), st.sampled_from([Decimal("0.001"), Decimal(1), Decimal(1024)]))
def test_units_are_rounded_up(amount: Decimal, divisor: Decimal) -> None:
    units = in_units_of(amount, divisor)
    assert units * divisor >= amount
    assert (units - 1) * divisor < amount
