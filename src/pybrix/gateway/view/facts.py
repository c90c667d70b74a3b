"""What the gateway reads of pods, EndpointSlices of adapters and ModelAdapters: small, comparable, persistable. Pure.

An update of an object that changes none of these facts changes nothing in the gateway.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.identity import Uid
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.names import (
    ADAPTER_ENABLED,
    ADAPTER_NAME,
    DEFAULT_MODEL_PORT,
    METRIC_PORT,
    MODEL_CONFIG,
    MODEL_ENGINE,
    MODEL_NAME,
    MODEL_PORT,
)
from pybrix.base.clock import parse_rfc3339
from pybrix.gateway.framework.modelconfig import MAX_CONFIG_CHARS
from pybrix.gateway.framework.types import Endpoint, EndpointId

RAY_NODE_TYPE = "ray.io/node-type"
MAX_MODEL_NAME_CHARS = 512
_TRUE = "true"


class ModelKey(NamedTuple):
    """Namespace and name of a model, or of an adapter, which is a model of its namespace by its own name."""

    namespace: str
    model: str


class PodFacts(msgspec.Struct, frozen=True):
    """What the gateway reads of one pod that serves a model; `model` is "" where it only takes adapters.

    `absent_because` says why it is no endpoint now; empty means that it is one. `is_mislabelled`: the reason is a label
    or annotation that a person has to mend. `is_draining`: it is being deleted and still answers. `ready_since_s` is
    the Unix time at which it became ready, 0 where nobody says. `metric_port` 0 is the serving port. `config` is the
    annotation of that name, cut where it is too long to count.
    """

    uid: Uid
    namespace: str
    name: str
    model: str
    port: int = 0
    address: str = ""
    absent_because: str = ""
    is_mislabelled: bool = False
    labels: dict[str, str] = {}
    created_at: str = ""
    is_draining: bool = False
    engine: str = ""
    metric_port: int = 0
    ready_since_s: float = 0.0
    config: str = ""

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.namespace, self.model)

    @property
    def host(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        return self.endpoint_of("")

    def endpoint_of(self, adapter: str) -> Endpoint:
        """Return the endpoint by which this pod serves an adapter, or its own model for ""."""
        return Endpoint(
            id=EndpointId(self.uid, self.port),
            namespace=self.namespace,
            model=adapter or self.model,
            pod_name=self.name,
            host=self.host,
            labels=self.labels,
            created_at=self.created_at,
            address=self.address,
            adapter=adapter,
            base_model=self.model,
            engine=self.engine,
            ready_since_s=self.ready_since_s,
        )


class SliceEndpoint(msgspec.Struct, frozen=True):
    """One endpoint of a slice. `pod_uid` is "" where the slice only has addresses, as those of others may."""

    address: str
    pod_uid: Uid = Uid("")
    is_ready: bool = True
    is_serving: bool = True


class SliceFacts(msgspec.Struct, frozen=True):
    """One EndpointSlice of an adapter. A slice's port is not read: the engine's port is a fact of the pod."""

    uid: Uid
    namespace: str
    adapter: str
    endpoints: tuple[SliceEndpoint, ...] = ()

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.namespace, self.adapter)


class AdapterFacts(msgspec.Struct, frozen=True):
    """One ModelAdapter. `unready_because` is what its status says while it is not Ready.

    `instances` are pod names, kept only where they are all there is to go by: AIBrix's controller writes slices without
    the adapter's label, and no `observedGeneration`.
    """

    uid: Uid
    namespace: str
    name: str
    base_model: str = ""
    unready_because: str = ""
    instances: tuple[str, ...] = ()

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.namespace, self.name)


def read_pod(pod: Pod) -> PodFacts | None:
    """Return the facts of a pod, or None for one that serves no model (or is a Ray worker, behind its head)."""
    meta = pod.metadata
    model = meta.labels.get(MODEL_NAME) or meta.annotations.get(MODEL_NAME, "")
    takes_adapters = meta.labels.get(ADAPTER_ENABLED) == _TRUE
    if not (model or takes_adapters) or meta.labels.get(RAY_NODE_TYPE) == "worker":
        return None
    port, port_problem = _read_port(meta.labels.get(MODEL_PORT) or meta.annotations.get(MODEL_PORT, ""))
    metric_port, _ = _read_port(meta.labels.get(METRIC_PORT) or meta.annotations.get(METRIC_PORT, "") or str(port))
    mistake = _name_problem(model) or port_problem
    return PodFacts(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        model=model,
        port=port,
        address=pod.status.pod_ip,
        absent_because=mistake or _not_ready(pod),
        is_mislabelled=bool(mistake),
        labels=meta.labels,
        created_at=meta.creation_timestamp or "",
        is_draining=not mistake and meta.is_terminating and pod.is_ready and bool(pod.status.pod_ip),
        engine=meta.labels.get(MODEL_ENGINE, ""),
        metric_port=0 if metric_port == port else metric_port,
        ready_since_s=_ready_since_s(pod),
        config=meta.annotations.get(MODEL_CONFIG, "")[: MAX_CONFIG_CHARS + 1],
    )


def read_slice(found: EndpointSlice) -> SliceFacts | None:
    """Return the facts of a slice, or None for one that is of no adapter."""
    adapter = found.metadata.labels.get(ADAPTER_NAME, "")
    if not adapter:
        return None
    return SliceFacts(
        uid=found.metadata.uid,
        namespace=found.metadata.namespace,
        adapter=adapter,
        endpoints=tuple(
            SliceEndpoint(
                address=each.addresses[0],
                pod_uid=Uid(each.target_ref.uid) if each.target_ref is not None else Uid(""),
                # Absent conditions mean yes (discovery.k8s.io/v1); `serving` is `ready` where it is not said.
                is_ready=each.conditions.ready is not False,
                is_serving=(each.conditions.ready if each.conditions.serving is None else each.conditions.serving)
                is not False,
            )
            for each in found.endpoints
            if each.addresses
        ),
    )


def read_adapter(adapter: ModelAdapter) -> AdapterFacts:
    """Return the facts of a ModelAdapter."""
    meta, status = adapter.metadata, adapter.status
    is_of_aibrix = not status.observed_generation
    return AdapterFacts(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        base_model=adapter.spec.base_model or "",
        unready_because=_unready_because(adapter),
        instances=tuple(status.instances) if is_of_aibrix else (),
    )


def _unready_because(adapter: ModelAdapter) -> str:
    if adapter.metadata.is_terminating:
        return "the adapter is being deleted"
    status = adapter.status
    phase = status.phase or "Pending"
    told = next((c for c in status.conditions if c.type == "Ready"), None)
    if told is not None and told.is_true:
        return ""
    # What failed first tells more than that it is not Ready.
    failed = next((c for c in status.conditions if not c.is_true and c.type != "Ready"), told)
    why = f": {failed.message or failed.reason}" if failed is not None else ""
    return f"the adapter is {phase}{why}"


def _read_port(text: str) -> tuple[int, str]:
    if not text:
        return DEFAULT_MODEL_PORT, ""
    # Python's int() takes more than a port is written as: signs, spaces, underscores, other digits.
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text), ""
    return 0, f"label {MODEL_PORT} is {text[:70]!r}, not a port"


def _name_problem(model: str) -> str:
    # An annotation may hold anything; the name becomes part of header values and of Envoy's cluster names.
    if len(model) > MAX_MODEL_NAME_CHARS:
        return f"{MODEL_NAME} is longer than {MAX_MODEL_NAME_CHARS} characters"
    if not model.isprintable():
        return f"{MODEL_NAME} holds control characters"
    return ""


def _not_ready(pod: Pod) -> str:
    if pod.metadata.is_terminating:
        return "terminating"
    if pod.is_finished:
        return f"finished ({pod.status.phase})"
    if not pod.status.pod_ip:
        return "no IP yet"
    return "" if pod.is_ready else "not ready"


def _ready_since_s(pod: Pod) -> float:
    since = next((c.last_transition_time for c in pod.status.conditions if c.type == "Ready" and c.is_true), None)
    try:
        return parse_rfc3339(since or pod.metadata.creation_timestamp or "").timestamp()
    except ValueError:
        return 0.0
