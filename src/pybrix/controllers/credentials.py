"""What a Secret holds, as controllers see it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a Secret holds, decoded; `values` None when it cannot be read, and `problem` says why."""

    values: Mapping[str, str] | None
    problem: str = ""
    is_missing: bool = False


NONE = Credentials({})
