from __future__ import annotations

from decimal import Decimal

import pytest

from pybrix.base.quantity import parse_int_or_percent, parse_quantity


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("500m", Decimal("0.5"), id="milli is a thousandth"),
        pytest.param("2Gi", Decimal(2 * 2**30), id="Gi is binary"),
        pytest.param("4Ki", Decimal(4096), id="Ki has a capital K"),
        pytest.param("3Ki", Decimal(3 * 2**10), id="Ki is binary, with a large K"),
        pytest.param("3k", Decimal(3000), id="k is decimal, with a small k"),
        pytest.param("2G", Decimal(2 * 10**9), id="G is decimal"),
        pytest.param("1e3", Decimal(1000), id="exponent"),
        pytest.param("1E", Decimal(10**18), id="E alone is exa, not an exponent"),
        pytest.param(".5", Decimal("0.5"), id="no leading zero"),
        pytest.param(4, Decimal(4), id="a bare number"),
        pytest.param("-1", Decimal(-1), id="negative"),
    ],
)
def test_parses(text: str | int, want: Decimal) -> None:
    assert parse_quantity(text) == want


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1ki", "1K", "0x10", "1mi", "1e", "--1"])
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("value", "total", "round_up", "want"),
    [
        pytest.param("25%", 3, True, 1, id="a quarter of three rounds up to one"),
        pytest.param("25%", 3, False, 0, id="and down to none"),
        pytest.param("100%", 7, False, 7, id="all"),
        pytest.param(2, 10, True, 2, id="a number is itself"),
    ],
)
def test_int_or_percent(value: int | str, total: int, round_up: bool, want: int) -> None:
    assert parse_int_or_percent(value, total, round_up=round_up) == want


def test_a_string_without_percent_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="nor a percentage"):
        parse_int_or_percent("25", 4, round_up=True)
