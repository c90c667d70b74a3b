"""The cluster as the gateway sees it: an immutable view, made from pods. Pure.

A view changes by `apply`, which rebuilds only the models whose pods changed, so that an unchanged model is the same
object in the next view. Live numbers (requests in flight) are kept elsewhere, keyed by `EndpointId`: no pod update can
reset them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.api.names import DEFAULT_MODEL_PORT, MODEL_NAME, MODEL_PORT
from pybrix.gateway.framework.types import Endpoint, EndpointId

RAY_NODE_TYPE = "ray.io/node-type"
MAX_MODEL_NAME_CHARS = 512


class ModelKey(NamedTuple):
    """Namespace and name of a model."""

    namespace: str
    model: str


class PodFacts(msgspec.Struct, frozen=True):
    """What the gateway reads of one pod that serves a model.

    `absent_because` says why it is no endpoint now; empty means that it is one. `is_mislabelled`: the reason is a label
    or annotation that a person has to mend.
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

    @property
    def key(self) -> ModelKey:
        return ModelKey(self.namespace, self.model)

    @property
    def endpoint(self) -> Endpoint:
        host = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        return Endpoint(
            id=EndpointId(self.uid, self.port),
            namespace=self.namespace,
            model=self.model,
            pod_name=self.name,
            host=host,
            labels=self.labels,
            created_at=self.created_at,
        )


class ModelView(msgspec.Struct, frozen=True):
    """One model of one namespace. No endpoints: it is known and not ready. No pods: its last one left not long ago."""

    key: ModelKey
    endpoints: tuple[Endpoint, ...] = ()
    pods: tuple[PodFacts, ...] = ()

    @property
    def condition(self) -> str:
        """Say in words how the pods that are no endpoints are."""
        absent = [f"{p.name}: {p.absent_because}" for p in self.pods if p.absent_because]
        if not self.pods:
            return "it has no pods"
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        return "; ".join(absent[:3]) + more


class ClusterView(msgspec.Struct, frozen=True):
    """All models at one moment. `version` grows with every change within one brain.

    `namespaces` maps a model's name to the namespaces that have it, sorted; `at_home` to its model where only one
    namespace does; `by_host` maps `ip:port` to an endpoint.
    """

    version: int = 0
    pods: Mapping[Uid, PodFacts] = {}
    models: Mapping[ModelKey, ModelView] = {}
    namespaces: Mapping[str, tuple[str, ...]] = {}
    at_home: Mapping[str, ModelView] = {}
    by_host: Mapping[str, Endpoint] = {}

    def names(self, namespace: str = "") -> list[str]:
        """Return the models' names, sorted: of one namespace, or of all."""
        return sorted({key.model for key in self.models if not namespace or key.namespace == namespace})

    def endpoint_ids(self) -> set[EndpointId]:
        return {endpoint.id for endpoint in self.by_host.values()}


EMPTY = ClusterView()


def read_pod(pod: Pod) -> PodFacts | None:
    """Return the facts of a pod, or None for one that serves no model (or is a Ray worker, behind its head)."""
    meta = pod.metadata
    model = meta.labels.get(MODEL_NAME) or meta.annotations.get(MODEL_NAME, "")
    if not model or meta.labels.get(RAY_NODE_TYPE) == "worker":
        return None
    port, port_problem = _read_port(meta.labels.get(MODEL_PORT) or meta.annotations.get(MODEL_PORT, ""))
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
    )


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


def build_view(pods: Iterable[PodFacts]) -> ClusterView:
    """Return the view of these pods and nothing else."""
    return apply(EMPTY, {facts.uid: facts for facts in pods})


def apply(view: ClusterView, changes: Mapping[Uid, PodFacts | None]) -> ClusterView:
    """Return the view after the changes; None means that the pod is gone. The same object when nothing changed.

    A model without a pod stays known until `forget`: a request between two pods is told to retry.
    """
    pods = dict(view.pods)
    touched: set[ModelKey] = set()
    for uid, facts in changes.items():
        before = pods.get(uid)
        if before == facts:
            continue
        if before is not None:
            touched.add(before.key)
        if facts is None:
            del pods[uid]
        else:
            touched.add(facts.key)
            pods[uid] = facts
    if not touched:
        return view
    models = dict(view.models)
    members: dict[ModelKey, dict[Uid, PodFacts]] = {
        key: {p.uid: p for p in models[key].pods if p.uid not in changes} if key in models else {} for key in touched
    }
    for uid in changes:
        if (now := pods.get(uid)) is not None and now.key in members:
            members[now.key][uid] = now
    for key, found in members.items():
        # Keyed pods keep their place whatever the order of events was.
        ordered = tuple(sorted(found.values(), key=lambda p: (p.name, p.uid)))
        models[key] = ModelView(key, tuple(p.endpoint for p in ordered if not p.absent_because), ordered)
    return _indexed(view.version + 1, pods, models)


def forget(view: ClusterView, keys: Iterable[ModelKey]) -> ClusterView:
    """Return the view without those of the models that have no pods."""
    gone = {key for key in keys if key in view.models and not view.models[key].pods}
    if not gone:
        return view
    return _indexed(view.version + 1, view.pods, {k: m for k, m in view.models.items() if k not in gone})


def podless(view: ClusterView) -> set[ModelKey]:
    """Return the models that are known only because they had pods not long ago."""
    return {key for key, model in view.models.items() if not model.pods}


def _indexed(version: int, pods: Mapping[Uid, PodFacts], models: Mapping[ModelKey, ModelView]) -> ClusterView:
    namespaces: dict[str, list[str]] = {}
    for key in sorted(models):
        namespaces.setdefault(key.model, []).append(key.namespace)
    return ClusterView(
        version=version,
        pods=pods,
        models=models,
        namespaces={name: tuple(found) for name, found in namespaces.items()},
        at_home={name: models[ModelKey(found[0], name)] for name, found in namespaces.items() if len(found) == 1},
        by_host={e.host: e for model in models.values() for e in model.endpoints},
    )
