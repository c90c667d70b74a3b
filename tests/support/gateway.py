"""Builders for gateway tests: pods that serve models, views, a director on a clock that tests move."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.gateway.director import Director
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest, Question, Strategy
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.view.snapshot import ClusterView, PodFacts, build_view, read_pod


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic_s(self) -> float:
        return self.seconds


def make_pod(
    name: str,
    *,
    namespace: str = "default",
    model: str = "m",
    uid: str = "",
    ip: str = "127.64.0.1",
    ready: bool = True,
    terminating: bool = False,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> Pod:
    """Return a pod that serves a model on port 8000; an empty `model` means: by no label."""
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-{namespace}-{name}",
        "labels": {**({"model.aibrix.ai/name": model} if model else {}), **(labels or {})},
        "annotations": annotations or {},
    }
    if terminating:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return Pod.from_dict({"metadata": meta, "status": {"phase": phase, "podIP": ip, "conditions": conditions}})


def facts(
    name: str,
    *,
    namespace: str = "default",
    model: str = "m",
    uid: str = "",
    ip: str = "127.64.0.1",
    ready: bool = True,
) -> PodFacts:
    found = read_pod(make_pod(name, namespace=namespace, model=model, uid=uid, ip=ip, ready=ready))
    assert found is not None
    return found


def view_of(*pods: PodFacts) -> ClusterView:
    return build_view(pods)


def make_endpoint(name: str, *, port: int = 8000, ip: str = "", model: str = "m") -> Endpoint:
    address = ip or f"127.64.1.{sum(name.encode()) % 250}"
    return Endpoint(EndpointId(Uid(f"uid-{name}"), port), "default", model, name, f"{address}:{port}")


def make_request(strategy: str = "random", model: str = "m") -> InferenceRequest:
    return InferenceRequest("default", model, "/v1/chat/completions", strategy, 400, 100)


@dataclass(slots=True)
class World:
    """A director with everything that it changes."""

    view: ClusterView
    clock: MovableClock = field(default_factory=MovableClock)
    loads: LoadTable = field(default_factory=LoadTable)
    strategy: str = "least-request"
    strategies: Sequence[Strategy] = ()
    reservations: Reservations = field(init=False)
    director: Director = field(init=False)

    def __post_init__(self) -> None:
        numbers = itertools.count()
        self.reservations = Reservations(self.loads, "me", lambda: f"token{next(numbers)}", 10.0)
        known = {s.name: s for s in self.strategies} or build_strategies()
        self.director = Director(
            view=lambda: self.view,
            profile=Profile(known),
            default_strategy=self.strategy,
            loads=self.loads,
            reservations=self.reservations,
            chance=random.Random(7),
            clock=self.clock,
        )

    def in_flight(self) -> dict[str, int]:
        """Return requests in flight by pod name, without zeros."""
        names = {e.id: e.pod_name for e in self.view.by_host.values()}
        return {names.get(key, key.pod_uid): load.requests for key, load in self.loads if load.requests}


def ask(
    model: object = "m", *, path: str = "/v1/chat/completions", namespace: str = "", strategy: str = ""
) -> Question:
    return Question(path, msgspec.json.encode({"model": model, "messages": []}), namespace, strategy)
