"""What the ModelAdapter controller sees in one pass, and the words that it writes. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import msgspec

from pybrix.api.core import Container, EndpointSlice, Pod, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import find_condition
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod, ModelAdapter
from pybrix.api.names import DEFAULT_MODEL_PORT, METRIC_PORT, MODEL_ENGINE, MODEL_PORT, POD_TEMPLATE_HASH
from pybrix.base.hashing import template_hash
from pybrix.engine.adapters import (
    AdapterError,
    AdapterProtocol,
    AdapterSource,
    AdapterTarget,
    ServedModel,
    direct_path,
    protocol_of,
)

FINALIZER = "adapter.model.aibrix.ai/finalizer"
ADAPTER_NAME = "adapter.model.aibrix.ai/name"
"""Label of an adapter's Service and slices."""
READINESS_GATE = "adapter.model.aibrix.ai/loaded"
"""Condition of pods whose template asks for it: all adapters meant for the pod are loaded."""
MANAGER = "modeladapter-controller.pybrix.ai"
"""Who keeps the slices, in their label `endpointslice.kubernetes.io/managed-by`."""
SIDECAR = "aibrix-runtime"
SIDECAR_PORT = 8080
API_KEY = "api-key"
"""Key of `additionalConfig` and of the credentials Secret: what the engine wants as bearer token."""

K = TypeVar("K", contravariant=True)
V = TypeVar("V", covariant=True)
_REVISION_LABELS = (POD_TEMPLATE_HASH, "controller-revision-hash", "role-template-hash")


class State(StrEnum):
    """How an adapter is in one pod, as `status.pods[].state` says it."""

    LOADING = "Loading"
    RELOADING = "Reloading"
    LOADED = "Loaded"
    DRAINING = "Draining"
    UNLOADING = "Unloading"
    FAILED = "Failed"


class Phase(StrEnum):
    """`status.phase`, in AIBrix's words."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    BOUND = "Bound"
    RESOURCE_CREATED = "ResourceCreated"
    RUNNING = "Running"
    FAILED = "Failed"
    UNKNOWN = "Unknown"
    SCALED = "Scaled"


class PodFacts(msgspec.Struct, frozen=True):
    """What the controller reads of one pod."""

    uid: Uid
    key: ObjectKey
    labels: dict[str, str]
    addresses: tuple[str, ...] = ()
    port: int = DEFAULT_MODEL_PORT
    protocol: AdapterProtocol = AdapterProtocol.VLLM
    engine: str = ""
    metric_port: int = DEFAULT_MODEL_PORT
    is_ready: bool = False
    are_containers_ready: bool = False
    unready_since: str | None = None
    """When the containers ceased to be ready (or were first seen so); None while they are."""
    is_terminating: bool = False
    is_finished: bool = False
    node_name: str = ""
    created_at: str = ""
    lineage: str = ""
    """The workload that the pod belongs to; generations are compared within one."""
    generation: str = ""
    """Which revision of that workload made the pod."""
    containers: tuple[str, ...] = ()
    """Identity of the running containers: it changes with every restart."""
    capacity: int | None = None
    """Adapters that the engine takes; None when its command line does not say."""
    has_gate: bool = False

    @property
    def is_alive(self) -> bool:
        """Say whether an engine may answer there."""
        return bool(self.addresses) and not self.is_finished

    def target(self, api_key: str) -> AdapterTarget:
        address = self.addresses[0]
        host = f"[{address}]" if ":" in address else address
        port = SIDECAR_PORT if self.protocol is AdapterProtocol.SIDECAR else self.port
        return AdapterTarget(f"http://{host}:{port}", self.protocol, api_key)


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """What an engine answered last. `models` None: nothing yet since its containers started."""

    models: Mapping[str, ServedModel] | None = None
    failures: int = 0
    """Questions in a row without an answer."""
    error: str = ""
    has_restarted: bool = False
    """Whether the containers were seen to restart since the engine answered: what it had loaded is lost."""
    is_refusing: bool = False
    """Whether it answered last that it does not list its models, such as to a wrong token; `error` says it."""


class Verb(StrEnum):
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine shall do. `is_replacing`: one of that name may be there and is unloaded first."""

    verb: Verb
    pod_uid: Uid
    source: AdapterSource
    target: AdapterTarget
    why: str
    is_replacing: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request; an empty reason means success. The engine was listed again before it was told."""

    verb: Verb
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodLoad:
    """How busy an engine is, for the policies that ask. None: not known."""

    latency_s: float | None = None
    """Average time of a request, waiting included."""
    tokens_per_minute: float | None = None
    """Twice the prompt tokens and the generated ones, as AIBrix weighs them."""


class Lookup(Protocol[K, V]):
    """What a pass asks of something too large to be copied for it; every mapping is one."""

    def get(self, key: K, /) -> V | None: ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What the pods of a selector have in common; made once between two changes of them."""

    ranks: Mapping[Uid, int] = field(default_factory=dict)
    """Age of each pod's generation within its workload: 0 is the newest."""
    num_ready: int = 0
    num_active: int = 0
    """Pods that are neither terminating nor finished."""
    ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Observed:
    """One adapter and everything that its plan depends on."""

    adapter: ModelAdapter
    members: Mapping[Uid, PodFacts] = field(default_factory=dict)
    """Pods that the selector matches."""
    survey: Survey = field(default_factory=Survey)
    """What the members have in common."""
    leavers: Mapping[Uid, PodFacts] = field(default_factory=dict)
    """Pods that do not match and have a record."""
    engines: Lookup[Uid, EngineSeen] = field(default_factory=dict[Uid, EngineSeen])
    listed_in: frozenset[Uid] = frozenset()
    """Pods whose engines list the adapter's name."""
    records: Mapping[Uid, AdapterPod] = field(default_factory=dict)
    busy: frozenset[Uid] = frozenset()
    """Pods in which a request of this adapter is under way."""
    outcomes: Mapping[Uid, Outcome] = field(default_factory=dict)
    """Requests that ended since the last pass."""
    occupancy: Lookup[Uid, int] = field(default_factory=dict[Uid, int])
    """Other adapters that are placed in each member; absent means none."""
    loads: Lookup[Uid, PodLoad] = field(default_factory=dict[Uid, PodLoad])
    policy: str = "leastAdapters"
    """The policy that `schedulerName` default stands for."""
    credentials: Mapping[str, str] | None = field(default_factory=dict, repr=False)
    """Decoded contents of the Secret, {} without one; None when it cannot be read."""
    credentials_problem: str = ""
    service: Service | None = None
    slices: tuple[EndpointSlice, ...] = ()
    taken: frozenset[str] = frozenset()
    """Names of slices that could be ours and belong to somebody else."""


def survey(members: Iterable[PodFacts]) -> Survey:
    """Return what the pods of a selector have in common."""
    active = [pod for pod in members if not pod.is_terminating and not pod.is_finished]
    return Survey(
        rank_generations(active),
        num_ready=sum(pod.is_ready for pod in active),
        num_active=len(active),
        ports=frozenset(pod.port for pod in active),
    )


def read_pod(pod: Pod) -> PodFacts:
    """Return the facts of a pod."""
    meta, status = pod.metadata, pod.status
    containers = find_condition(status.conditions, "ContainersReady")
    ready = find_condition(status.conditions, "Ready")
    # A kubelet writes both; where only Ready is known, it stands for both.
    told = containers if containers is not None else ready
    are_ready = told is not None and told.is_true
    engine, has_sidecar = _engine_container(pod)
    port = _port(meta.labels.get(MODEL_PORT, ""))
    ips = tuple(dict.fromkeys([ip.ip for ip in status.pod_ips] or [status.pod_ip]))
    statuses = (*status.init_container_statuses, *status.container_statuses)
    return PodFacts(
        uid=meta.uid,
        key=pod.key,
        labels=meta.labels,
        addresses=tuple(ip for ip in ips if ip),
        port=port,
        engine=meta.labels.get(MODEL_ENGINE, ""),
        metric_port=_port(meta.labels.get(METRIC_PORT, ""), port),
        protocol=protocol_of(meta.labels.get(MODEL_ENGINE), has_sidecar=has_sidecar),
        is_ready=pod.is_ready,
        are_containers_ready=are_ready,
        unready_since=None if are_ready else ((told.last_transition_time if told else None) or meta.creation_timestamp),
        is_terminating=meta.is_terminating,
        is_finished=pod.is_finished,
        node_name=pod.spec.node_name,
        created_at=meta.creation_timestamp or "",
        lineage=_lineage(pod),
        generation=_generation(pod),
        containers=tuple(f"{c.name}/{c.restart_count}/{c.container_id}" for c in statuses),
        capacity=_capacity(engine),
        has_gate=any(gate.get("conditionType") == READINESS_GATE for gate in pod.spec.readiness_gates),
    )


def _port(label: str, default: int = DEFAULT_MODEL_PORT) -> int:
    return int(label) if label.isdecimal() and 0 < int(label) < 65536 else default


def _engine_container(pod: Pod) -> tuple[Container | None, bool]:
    every = [*pod.spec.containers, *pod.spec.init_containers]
    engine = next((c for c in pod.spec.containers if c.name != SIDECAR), None)
    return engine, any(c.name == SIDECAR for c in every)


def _lineage(pod: Pod) -> str:
    controller = pod.metadata.controller
    if controller is None:
        return ""
    # A ReplicaSet is named after its Deployment and the hash of the template.
    revision = pod.metadata.labels.get(POD_TEMPLATE_HASH, "")
    return f"{controller.kind}/{controller.name.removesuffix(f'-{revision}') if revision else controller.name}"


def _generation(pod: Pod) -> str:
    controller = pod.metadata.controller
    if controller is None:
        return ""
    revision = next((pod.metadata.labels[name] for name in _REVISION_LABELS if name in pod.metadata.labels), "")
    return revision or controller.uid


def _capacity(engine: Container | None) -> int | None:
    """Return how many adapters vLLM's flags allow: `--max-cpu-loras`, else `--max-loras`."""
    if engine is None:
        return None
    words: list[str] = []
    for text in (*engine.command, *engine.args):
        # `sh -c "vllm serve ... --max-loras 4"` has them in one word.
        words += _split(text) if " " in text else [text]
    for flag in ("--max-cpu-loras", "--max-loras"):
        for index, word in enumerate(words):
            name, separator, value = word.partition("=")
            if name == flag:
                told = value if separator else (words[index + 1] if index + 1 < len(words) else "")
                if told.isdecimal():
                    return int(told)
    return None


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def rank_generations(members: Iterable[PodFacts]) -> dict[Uid, int]:
    """Return the rank of each pod's generation within its workload, 0 for the newest.

    A generation is as old as its oldest pod that is there: a pod that an old ReplicaSet makes anew does not renew it.
    """
    every = list(members)
    births: dict[tuple[str, str], str] = {}
    for pod in every:
        name = (pod.lineage, pod.generation)
        births[name] = min(births.get(name, pod.created_at), pod.created_at)
    order: dict[str, list[tuple[str, str]]] = {}
    for (lineage, generation), born in births.items():
        order.setdefault(lineage, []).append((born, generation))
    ranks = {
        (lineage, generation): rank
        for lineage, generations in order.items()
        for rank, (_, generation) in enumerate(sorted(generations, reverse=True))
    }
    return {pod.uid: ranks[pod.lineage, pod.generation] for pod in every}


def revision_of(adapter: ModelAdapter, credentials: Mapping[str, str] | None) -> str | None:
    """Return the hash of everything that a load depends on; None while the credentials are not known."""
    if credentials is None:
        return None
    spec = adapter.spec
    facts: list[Any] = [spec.artifact_url, spec.base_model or "", spec.additional_config, dict(credentials)]
    return template_hash(facts)


def source_of(adapter: ModelAdapter, credentials: Mapping[str, str] | None) -> AdapterSource:
    return AdapterSource(
        adapter.metadata.name,
        adapter.spec.artifact_url,
        credentials={k: v for k, v in (credentials or {}).items() if k != API_KEY},
        additional_config=adapter.spec.additional_config,
    )


def api_key_of(adapter: ModelAdapter, credentials: Mapping[str, str] | None) -> str:
    """Return the engine's bearer token: from the Secret, else from the spec."""
    return (credentials or {}).get(API_KEY) or adapter.spec.additional_config.get(API_KEY, "")


def expected_root(adapter: ModelAdapter, protocol: AdapterProtocol) -> str | None:
    """Return what the engine lists as the adapter's root once it has loaded it; None where that cannot be told."""
    if protocol is AdapterProtocol.SIDECAR:
        return None
    try:
        return direct_path(adapter.spec.artifact_url)
    except AdapterError:
        return None


def is_due(moment: str | None, now: datetime) -> bool:
    """Say whether a moment of a record has come; an unreadable one has."""
    return moment is None or seconds_until(moment, now) <= 0


def seconds_until(moment: str, now: datetime) -> float:
    try:
        return (datetime.fromisoformat(moment) - now).total_seconds()
    except (ValueError, TypeError):
        return 0.0
