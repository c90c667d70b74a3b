"""The strategies there are."""

from __future__ import annotations

import random

from pybrix.gateway.scheduling.registry import build_strategies, strategy_names


def test_the_names_are_those_that_a_strategy_is_built_for() -> None:
    assert strategy_names() == tuple(sorted(build_strategies(random.Random(1))))
    assert {"random", "least-request", "prefix-cache", "prefix-affinity"} <= set(strategy_names())
