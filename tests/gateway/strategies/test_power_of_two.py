from __future__ import annotations

import random
from collections import Counter

from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.strategies.power_of_two import PowerOfTwo
from tests.support.gateway import make_endpoint, make_request, make_signals


def test_the_less_loaded_of_two_that_are_drawn_comes_first_and_the_other_second() -> None:
    names = "abcd"
    counts = {name: n for n, name in enumerate(names)}
    strategy = PowerOfTwo(random.Random(3))
    pairs = Counter[str]()
    for _ in range(600):
        got = strategy.score(make_request(), [make_endpoint(n) for n in names], make_signals(counts))
        best, other = names[got.index(1.0)], names[got.index(0.75)]
        assert counts[best] < counts[other]
        assert sorted(got)[:2] == [0.5, 0.5]
        pairs[best + other] += 1
    assert set(pairs) == {"ab", "ac", "ad", "bc", "bd", "cd"}
    assert all(60 < count < 140 for count in pairs.values()), "every pair is as likely as any other"


def test_two_that_are_alike_tie() -> None:
    got = PowerOfTwo(random.Random(3)).score(make_request(), [make_endpoint("a"), make_endpoint("b")], make_signals())
    assert got == [1.0, 1.0]


def test_it_keeps_loads_closer_together_than_chance_does() -> None:
    endpoints = [make_endpoint(f"e{n}") for n in range(16)]
    spreads = {}
    for name in ("random", "power-of-two"):
        profile, chance, counts = Profile(build_strategies(random.Random(5))), random.Random(5), Counter[str]()
        for _ in range(320):
            counts[profile.rank(make_request(name), endpoints, make_signals(counts), chance)[0].pod_name] += 1
        spreads[name] = max(counts.values()) - min(counts[e.pod_name] for e in endpoints)
    assert spreads["power-of-two"] * 2 < spreads["random"]
