"""Compare strategies on one trace: every strategy, load and seed is one replay. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from pybrix.base.errors import UsageError
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.lab.profiles import EngineProfile
from pybrix.lab.replay import Replay
from pybrix.lab.saturation import find_saturation
from pybrix.lab.summary import Summary, summarise
from pybrix.lab.trace import Trace

ALL = "all"


@dataclass(frozen=True, slots=True)
class Case:
    """One replay. `load` None: the speed was given; `is_shared`: whether gateways tell each other what they know."""

    strategy: str
    seed: int
    speed: float
    load: float | None
    gateways: int = 1
    is_shared: bool = True


def check_strategies(names: Sequence[str]) -> list[str]:
    """Return the strategies to compare, each once: those that are named, and all there are for `all`.

    Raises:
        UsageError: there is no such strategy.
    """
    profile = Profile(build_strategies(random.Random(0)))
    found: dict[str, None] = {}
    for name in names:
        if name == ALL:
            found.update(dict.fromkeys(profile.names))
        elif profile.find(name) is None:
            raise UsageError(f"no strategy {name}: there are {', '.join(profile.names)} and {ALL}")
        else:
            found[name] = None
    return list(found)


def plan_cases(
    trace: Trace,
    *,
    strategies: Sequence[str],
    pods: int,
    profile: EngineProfile,
    seeds: Sequence[int],
    loads: Sequence[float],
    speed: float,
    gateways: int = 1,
    is_shared: bool = True,
) -> list[Case]:
    """Return the cases, by load, strategy, seed. With loads, finds out first where the fleet saturates."""
    if not loads:
        return [Case(strategy, seed, speed, None, gateways, is_shared) for strategy in strategies for seed in seeds]
    full = find_saturation(trace, pods=pods, profile=profile, seed=seeds[0])
    return [
        Case(strategy, seed, load * full, load, gateways, is_shared)
        for load in loads
        for strategy in strategies
        for seed in seeds
    ]


def run_case(trace: Trace, case: Case, *, pods: int, profile: EngineProfile) -> Summary:
    """Replay one case."""
    replay = Replay(
        trace,
        strategy=case.strategy,
        pods=pods,
        profile=profile,
        speed=case.speed,
        seed=case.seed,
        gateways=case.gateways,
        is_shared=case.is_shared,
    )
    summary = summarise(
        replay.run(), strategy=case.strategy, seed=case.seed, pods=pods, speed=case.speed, load=case.load
    )
    return msgspec.structs.replace(summary, gateways=case.gateways)


def run_cases(trace: Trace, cases: Sequence[Case], *, pods: int, profile: EngineProfile) -> Iterator[Summary]:
    """Replay them one after the other."""
    for case in cases:
        yield run_case(trace, case, pods=pods, profile=profile)
