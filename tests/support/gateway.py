"""Builders for gateway tests: pods that serve models, views, a director on a clock that tests move."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.identity import Uid
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.gateway.admission.admintoken import AdminToken
from pybrix.gateway.director import Director
from pybrix.gateway.framework.plugins import Chance, Strategy
from pybrix.gateway.framework.signals import EngineMetrics, Signals
from pybrix.gateway.framework.types import Endpoint, EndpointId, InferenceRequest, Question
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.history import History
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.view.facts import AdapterFacts, PodFacts, SliceFacts, read_adapter, read_pod, read_slice
from pybrix.gateway.view.snapshot import ClusterView, build_view

DEFAULT_STRATEGY = GatewayConfiguration().routing_strategy
"""What chooses where neither a client nor a configuration says anything."""


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


def make_slice(
    adapter: str,
    *pods: str,
    namespace: str = "default",
    uid: str = "",
    not_ready: Collection[str] = (),
    terminating: Collection[str] = (),
    addresses: Sequence[str] = (),
) -> EndpointSlice:
    """Return a slice of an adapter: pods by UID (those of `not_ready` and `terminating` too), and bare addresses."""

    def endpoint(pod: str) -> dict[str, Any]:
        is_ready = pod not in not_ready and pod not in terminating
        conditions = {"ready": is_ready, "serving": pod not in not_ready, "terminating": pod in terminating}
        return {
            "addresses": ["127.64.0.1"],
            "conditions": conditions,
            "targetRef": {"kind": "Pod", "name": "any", "namespace": namespace, "uid": pod},
        }

    return EndpointSlice.from_dict(
        {
            "metadata": {
                "name": f"{adapter}-abcde",
                "namespace": namespace,
                "uid": uid or f"slice-{namespace}-{adapter}",
                "labels": {"adapter.model.aibrix.ai/name": adapter},
            },
            "addressType": "IPv4",
            "endpoints": [
                *map(endpoint, [*pods, *not_ready, *terminating]),
                *({"addresses": [each]} for each in addresses),
            ],
            "ports": [{"name": "http", "port": 8000}],
        }
    )


def slice_facts(adapter: str, *pods: str, **options: Any) -> SliceFacts:
    found = read_slice(make_slice(adapter, *pods, **options))
    assert found is not None
    return found


def make_adapter(
    name: str,
    *,
    namespace: str = "default",
    uid: str = "",
    base_model: str = "m",
    ready: bool = True,
    phase: str = "Running",
    message: str = "",
    instances: Sequence[str] = (),
    observed_generation: int = 1,
) -> ModelAdapter:
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "Told",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return ModelAdapter.from_dict(
        {
            "metadata": {"name": name, "namespace": namespace, "uid": uid or f"adapter-{namespace}-{name}"},
            "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "artifactURL": "/lora", "baseModel": base_model},
            "status": {
                "phase": phase,
                "conditions": [condition],
                "instances": list(instances),
                "observedGeneration": observed_generation,
            },
        }
    )


def adapter_facts(name: str, **options: Any) -> AdapterFacts:
    return read_adapter(make_adapter(name, **options))


def view_of(*pods: PodFacts) -> ClusterView:
    return build_view(pods)


def make_endpoint(name: str, *, port: int = 8000, ip: str = "", model: str = "m", **fields: Any) -> Endpoint:
    address = ip or f"127.64.1.{sum(name.encode()) % 250}"
    return Endpoint(EndpointId(Uid(f"uid-{name}"), port), "default", model, name, f"{address}:{port}", **fields)


def make_request(strategy: str = "random", model: str = "m", **fields: Any) -> InferenceRequest:
    known: dict[str, Any] = {
        "namespace": "default",
        "path": "/v1/chat/completions",
        "body_bytes": 400,
        "prompt_tokens": 100,
        "decode_tokens": 50,
    }
    return InferenceRequest(strategy=strategy, model=model, **{**known, **fields})


NOW_S = 1000.0
UNIX_S = 1_767_225_600.0


def make_signals(
    counts: Mapping[str, int] | None = None,
    *,
    loads: LoadTable | None = None,
    metrics: Mapping[str, EngineMetrics] | None = None,
    has_new: bool = False,
) -> Signals:
    """Return what strategies see, at `NOW_S`.

    Args:
        counts: requests in flight by the name of an endpoint of `make_endpoint`, of 10 prompt tokens each.
        loads: counts are added to these.
        metrics: by the name of such an endpoint.
    """
    table, engines = loads or LoadTable(), MetricsTable()
    for name, count in (counts or {}).items():
        for _ in range(count):
            table.add(make_endpoint(name).id, Weight(10, 10, 5))
    for name, each in (metrics or {}).items():
        engines.put(make_endpoint(name).id, each)
    return Signals(NOW_S, UNIX_S, table.of, engines.of, has_new)


@dataclass(slots=True)
class World:
    """A director with everything that it changes."""

    view: ClusterView
    clock: MovableClock = field(default_factory=MovableClock)
    loads: LoadTable = field(default_factory=LoadTable)
    metrics: MetricsTable = field(default_factory=MetricsTable)
    strategy: str = "least-request"
    strategies: Sequence[Strategy] = ()
    history: History | None = None
    admin_token: AdminToken | None = None
    chance: Chance | None = None
    reservations: Reservations = field(init=False)
    director: Director = field(init=False)

    def __post_init__(self) -> None:
        numbers = itertools.count()
        self.reservations = Reservations(self.loads, "me", lambda: f"token{next(numbers)}", 10.0)
        known = {s.name: s for s in self.strategies} or build_strategies(random.Random(1))
        self.director = Director(
            view=lambda: self.view,
            profile=Profile(known),
            default_strategy=self.strategy,
            loads=self.loads,
            reservations=self.reservations,
            chance=self.chance or random.Random(7),
            clock=self.clock,
            metrics=self.metrics,
            history=self.history,
            admin_token=self.admin_token,
        )

    def in_flight(self) -> dict[str, int]:
        """Return requests in flight by pod name, without zeros."""
        names = {e.id: e.pod_name for e in self.view.by_host.values()}
        return {names.get(key, key.pod_uid): load.requests for key, load in self.loads if load.requests}


def ask(
    model: object = "m",
    *,
    path: str = "/v1/chat/completions",
    namespace: str = "",
    strategy: str = "",
    user: str = "",
    **body: Any,
) -> Question:
    text = msgspec.json.encode({"model": model, "messages": [], **body})
    return Question(path, text, namespace, strategy, user)
