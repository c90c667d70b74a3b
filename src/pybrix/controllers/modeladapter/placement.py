"""Choose the pods that shall have an adapter. Pure.

The order of candidates, best first:

1. those in which loading does not keep failing,
2. the newest generation of their workload,
3. those that have the adapter, so that nothing moves without a reason,
4. what the policy says,
5. rendezvous hashing of adapter and pod: spread evenly, and the same in every pass.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from pybrix.api.identity import Uid
from pybrix.controllers.modeladapter.state import PodLoad

RANDOM = "random"
LEAST_ADAPTERS = "leastAdapters"
BIN_PACK = "binPack"
LEAST_LATENCY = "leastLatency"
LEAST_THROUGHPUT = "leastThroughput"
POLICIES = (RANDOM, LEAST_ADAPTERS, BIN_PACK, LEAST_LATENCY, LEAST_THROUGHPUT)
BY_METRICS = frozenset({LEAST_LATENCY, LEAST_THROUGHPUT})
"""Policies that need to know how busy pods are."""
DEFAULT = "default"
ASSUMED_CAPACITY = 10
"""Adapters that `binPack` assumes a pod to take when its command line does not say; as in AIBrix."""


class Holding(IntEnum):
    """What a candidate has of the adapter; less is nearer to what is wanted."""

    CURRENT = 0
    ON_THE_WAY = 1
    OUTDATED = 2
    NONE = 3


_STEPS = {Holding.CURRENT: 0, Holding.ON_THE_WAY: 1, Holding.OUTDATED: 2, Holding.NONE: 3}
_STEPS_WHEN_MOVING = {Holding.CURRENT: 0, Holding.ON_THE_WAY: 1, Holding.NONE: 2, Holding.OUTDATED: 3}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that may have the adapter.

    Args:
        rank: age of its generation, 0 is the newest.
        occupied: other adapters that are placed in it.
        capacity: adapters that it takes; None when that is not known.
    """

    uid: Uid
    rank: int = 0
    holding: Holding = Holding.NONE
    is_failing: bool = False
    occupied: int = 0
    capacity: int | None = None
    load: PodLoad = field(default_factory=PodLoad)

    @property
    def has_room(self) -> bool:
        return self.capacity is None or self.occupied < self.capacity


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen pods, best first. `note` says what the policy could not do as asked."""

    pods: tuple[Uid, ...]
    without_room: int = 0
    """Candidates that were left out because they are full."""
    note: str = ""


def policy_of(scheduler_name: str, default: str) -> tuple[str, str]:
    """Return the policy that `schedulerName` names, and a note when it names none."""
    if scheduler_name in ("", DEFAULT):
        return default, ""
    if scheduler_name in POLICIES:
        return scheduler_name, ""
    return default, f"schedulerName {scheduler_name!r} is no policy ({', '.join(POLICIES)}); {default} was used"


def choose(
    candidates: Sequence[Candidate],
    replicas: int | None,
    *,
    policy: str,
    seed: str,
    is_moving: bool = False,
) -> Choice:
    """Choose `replicas` pods, or all when None; fewer when there are not as many.

    Args:
        seed: makes the hashing the adapter's own, so that adapters spread; its UID.
        is_moving: an outdated copy is to be replaced in another pod, not where it is.
    """
    fitting = [c for c in candidates if c.has_room or c.holding is not Holding.NONE]
    full = len(candidates) - len(fitting)
    if replicas is None:
        return Choice(tuple(c.uid for c in fitting), full)
    score, note = _score(policy, fitting)
    steps = _STEPS_WHEN_MOVING if is_moving else _STEPS

    def key(candidate: Candidate) -> tuple[object, ...]:
        return (
            candidate.is_failing,
            candidate.rank,
            steps[candidate.holding],
            score(candidate),
            _rendezvous(seed, candidate.uid),
        )

    return Choice(tuple(c.uid for c in heapq.nsmallest(replicas, fitting, key=key)), full, note)


def _score(policy: str, candidates: Sequence[Candidate]) -> tuple[Callable[[Candidate], float], str]:
    """Return what a policy makes of a candidate, lower is better, and a note when it had to be another policy."""
    if policy == RANDOM:
        return (lambda _: 0.0), ""
    if policy == BIN_PACK:
        return (lambda c: (ASSUMED_CAPACITY if c.capacity is None else c.capacity) - c.occupied), ""
    if policy == LEAST_LATENCY and all(c.load.latency_s is not None for c in candidates):
        return (lambda c: c.load.latency_s or 0.0), ""
    if policy == LEAST_THROUGHPUT and all(c.load.tokens_per_minute is not None for c in candidates):
        return (lambda c: c.load.tokens_per_minute or 0.0), ""
    note = (
        "" if policy == LEAST_ADAPTERS else f"{policy} needs metrics that not all pods have; {LEAST_ADAPTERS} was used"
    )
    return (lambda c: float(c.occupied)), note


def _rendezvous(seed: str, uid: Uid) -> bytes:
    return hashlib.blake2b(f"{seed}/{uid}".encode(), digest_size=8).digest()
