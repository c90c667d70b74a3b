"""The strategies there are."""

from __future__ import annotations

from pybrix.gateway.scheduling.registry import build_strategies, strategy_names


def test_the_names_are_those_that_a_strategy_is_built_for() -> None:
    assert strategy_names() == ("least-request", "random") == tuple(sorted(build_strategies()))
