"""Kubernetes quantities: "500m", "2Gi", "1e3"."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]?))")


def parse_quantity(text: str | int | float) -> Decimal:
    """Return the value of a quantity in base units (cores, bytes, counts).

    Source of the grammar: `k8s.io/apimachinery/pkg/api/resource.Quantity`.

    Raises:
        ValueError: the text is no quantity.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity (examples: 500m, 2Gi, 1e3)")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Decimal(number + exponent)
    return Decimal(number) * _SUFFIXES[suffix]


def parse_int_or_percent(value: int | str, total: int, *, round_up: bool) -> int:
    """Resolve an IntOrString such as `25%` against a total, as `intstr.GetScaledValueFromIntOrPercent` does.

    Raises:
        ValueError: a string that is no percentage.
    """
    if isinstance(value, int):
        return value
    if not re.fullmatch(r"\d+%", value):
        raise ValueError(f"{value!r} is neither a number nor a percentage such as 25%")
    scaled, rest = divmod(int(value[:-1]) * total, 100)
    return scaled + 1 if round_up and rest else scaled
