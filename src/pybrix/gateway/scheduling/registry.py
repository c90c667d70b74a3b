"""The strategies there are, by the name that the header `routing-strategy` and the configuration use."""

from __future__ import annotations

from collections.abc import Mapping

from pybrix.gateway.framework.types import Strategy
from pybrix.gateway.strategies.least_request import LeastRequest
from pybrix.gateway.strategies.random import Random


def build_strategies() -> Mapping[str, Strategy]:
    """Return a new instance of every strategy by its name."""
    found: tuple[Strategy, ...] = (Random(), LeastRequest())
    return {strategy.name: strategy for strategy in found}


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, sorted."""
    return tuple(sorted(build_strategies()))
