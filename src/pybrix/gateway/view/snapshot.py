"""The cluster as the gateway sees it: an immutable view, made from pods, adapters' slices and ModelAdapters. Pure.

A view changes by `apply`, which rebuilds only the models that a change touches, so that an unchanged model is the same
object in the next view. Live numbers (requests in flight) are kept elsewhere, keyed by `EndpointId`: no pod update can
reset them, and a base model and its adapters share those of the engine.

An adapter's endpoints are those of its slices that are ready, where the pod itself is ready too: a slice lags behind
its pods, and those of other controllers may list pods that are gone. Only when there is none, those that still serve
while they terminate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict, TypeVar

import msgspec

from pybrix.api.identity import Uid
from pybrix.gateway.framework.modelconfig import UNCONFIGURED, ModelConfig, parse_model_config
from pybrix.gateway.framework.types import Endpoint, EndpointId
from pybrix.gateway.view.facts import AdapterFacts, ModelKey, PodFacts, SliceFacts

_Facts = TypeVar("_Facts", PodFacts, SliceFacts, AdapterFacts)


class AdapterView(msgspec.Struct, frozen=True):
    """What a model has of an adapter: its slices, sorted by UID, and its ModelAdapter where that can be read."""

    slices: tuple[SliceFacts, ...] = ()
    facts: AdapterFacts | None = None

    def references(self) -> set[str]:
        """Return by what it refers to pods; see `_references_of`."""
        found = {each.pod_uid or _place(s.namespace, each.address) for s in self.slices for each in s.endpoints}
        if not self.slices and self.facts is not None:
            found |= {_named(self.facts.namespace, name) for name in self.facts.instances}
        return found


class ModelView(msgspec.Struct, frozen=True):
    """One model of one namespace. No endpoints: it is known and not ready.

    `pods` are those that serve it by their own label. With `adapter` it is an adapter, unless there are pods as well: a
    base model keeps its name, as engines themselves have it, and the adapter waits. With neither it left not long ago.
    """

    key: ModelKey
    endpoints: tuple[Endpoint, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    adapter: AdapterView | None = None
    parent: str = ""
    """The base model of an adapter."""
    newest_s: float = 0.0
    """When the last of its endpoints became ready, as Unix time."""
    config: ModelConfig = UNCONFIGURED
    """How its requests are routed, as the newest of its pods says that is ready and says anything."""

    @property
    def adapter_name(self) -> str:
        """The model's name where it is an adapter, else ""."""
        return self.key.model if self.adapter is not None and not self.pods else ""

    @property
    def is_shadowed(self) -> bool:
        """Whether an adapter is not routed to because a base model has its name."""
        return self.adapter is not None and bool(self.pods)

    @property
    def condition(self) -> str:
        """Say in words why what is no endpoint is none."""
        if not self.pods and self.adapter is not None:
            told = self.adapter.facts.unready_because if self.adapter.facts is not None else ""
            return told or "no pod that is ready has loaded the adapter"
        absent = [f"{p.name}: {p.absent_because}" for p in self.pods if p.absent_because]
        if not self.pods:
            return "it has no pods"
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        return "; ".join(absent[:3]) + more


class _Joins(msgspec.Struct, frozen=True):
    """How adapters find pods: references to pods, and references to adapters' keys."""

    pods: Mapping[str, tuple[Uid, ...]] = {}
    adapters: Mapping[str, tuple[ModelKey, ...]] = {}


class ClusterView(msgspec.Struct, frozen=True):
    """All models at one moment. `version` grows with every change within one brain.

    `namespaces` maps a model's name to the namespaces that have it, sorted; `at_home` to its model where only one
    namespace does; `by_host` maps `ip:port` to the engine there, as an endpoint of its own model.
    """

    version: int = 0
    pods: Mapping[Uid, PodFacts] = {}
    slices: Mapping[Uid, SliceFacts] = {}
    adapters: Mapping[Uid, AdapterFacts] = {}
    models: Mapping[ModelKey, ModelView] = {}
    namespaces: Mapping[str, tuple[str, ...]] = {}
    at_home: Mapping[str, ModelView] = {}
    by_host: Mapping[str, Endpoint] = {}
    joins: _Joins = _Joins()

    def names(self, namespace: str = "") -> list[str]:
        """Return the models' names, sorted: of one namespace, or of all."""
        return sorted({key.model for key in self.models if not namespace or key.namespace == namespace})

    def is_adapter(self, key: ModelKey) -> bool:
        """Say whether the model is known, and an adapter."""
        model = self.models.get(key)
        return model is not None and bool(model.adapter_name)

    def endpoint_ids(self) -> set[EndpointId]:
        """Return the engines of all pods, ready or not: a pod that is not ready for a while is still the same."""
        return {EndpointId(pod.uid, pod.port) for pod in self.pods.values()}


EMPTY = ClusterView()


def build_view(
    pods: Iterable[PodFacts], slices: Iterable[SliceFacts] = (), adapters: Iterable[AdapterFacts] = ()
) -> ClusterView:
    """Return the view of these objects and nothing else."""
    return apply(
        EMPTY,
        {facts.uid: facts for facts in pods},
        {facts.uid: facts for facts in slices},
        {facts.uid: facts for facts in adapters},
    )


def apply(
    view: ClusterView,
    pods: Mapping[Uid, PodFacts | None],
    slices: Mapping[Uid, SliceFacts | None] | None = None,
    adapters: Mapping[Uid, AdapterFacts | None] | None = None,
) -> ClusterView:
    """Return the view after the changes; None means that the object is gone. The same object when nothing changed.

    A model without a pod stays known until `forget`: a request between two pods is told to retry.
    """
    changed_pods = _changed(view.pods, pods)
    changed_slices = _changed(view.slices, slices or {})
    changed_adapters = _changed(view.adapters, adapters or {})
    if not (changed_pods or changed_slices or changed_adapters):
        return view
    pods_now = _merged(view.pods, changed_pods)
    joined_pods = _joined_pods(view, changed_pods)
    members = _Members(view)
    for uid, pod in changed_pods.items():
        before = view.pods.get(uid)
        members.move_pod(before, pod)
        for facts in (before, pod):
            if facts is not None:
                for reference in _references_of(facts):
                    members.touch(view.joins.adapters.get(reference, ()))
    for uid, found in changed_slices.items():
        members.move_slice(view.slices.get(uid), found)
    for uid, adapter in changed_adapters.items():
        members.move_adapter(view.adapters.get(uid), adapter)
    models, changed = dict(view.models), dict[ModelKey, ModelView]()
    for key in members.touched:
        changed[key] = models[key] = members.build(key, pods_now, joined_pods)
    joined_adapters = view.joins.adapters
    if changed_slices or changed_adapters:
        joined_adapters = _joined_adapters(joined_adapters, view.models, changed)
    return ClusterView(
        version=view.version + 1,
        pods=pods_now,
        slices=_merged(view.slices, changed_slices),
        adapters=_merged(view.adapters, changed_adapters),
        models=models,
        by_host=_hosts(view, changed_pods),
        joins=_Joins(joined_pods, joined_adapters),
        **_homes(view, models, changed),
    )


def forget(view: ClusterView, keys: Iterable[ModelKey]) -> ClusterView:
    """Return the view without those of the models that have nothing left in the cluster."""
    gone = podless(view) & set(keys)
    if not gone:
        return view
    models = {key: model for key, model in view.models.items() if key not in gone}
    return msgspec.structs.replace(view, version=view.version + 1, models=models, **_homes(EMPTY, models, models))


def podless(view: ClusterView) -> set[ModelKey]:
    """Return the models that are known only because there was something of them not long ago."""
    return {key for key, model in view.models.items() if not model.pods and model.adapter is None}


class _Members:
    """What the touched models are made of, on its way from one view to the next."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._pods: dict[ModelKey, dict[Uid, PodFacts]] = {}
        self._slices: dict[ModelKey, dict[Uid, SliceFacts]] = {}
        self._adapters: dict[ModelKey, AdapterFacts | None] = {}

    @property
    def touched(self) -> Iterable[ModelKey]:
        return self._pods

    def touch(self, keys: Iterable[ModelKey]) -> None:
        for key in keys:
            if key in self._pods:
                continue
            model = self._view.models.get(key)
            adapter = model.adapter if model is not None else None
            self._pods[key] = {pod.uid: pod for pod in model.pods} if model is not None else {}
            self._slices[key] = {each.uid: each for each in adapter.slices} if adapter is not None else {}
            self._adapters[key] = adapter.facts if adapter is not None else None

    def move_pod(self, before: PodFacts | None, now: PodFacts | None) -> None:
        # A pod that only takes adapters is of no model of its own.
        if before is not None and before.model:
            self.touch([before.key])
            self._pods[before.key].pop(before.uid, None)
        if now is not None and now.model:
            self.touch([now.key])
            self._pods[now.key][now.uid] = now

    def move_slice(self, before: SliceFacts | None, now: SliceFacts | None) -> None:
        if before is not None:
            self.touch([before.key])
            self._slices[before.key].pop(before.uid, None)
        if now is not None:
            self.touch([now.key])
            self._slices[now.key][now.uid] = now

    def move_adapter(self, before: AdapterFacts | None, now: AdapterFacts | None) -> None:
        if before is not None:
            self.touch([before.key])
            held = self._adapters[before.key]
            # Of one recreated under its name, the new one may have come first.
            if held is not None and held.uid == before.uid:
                self._adapters[before.key] = None
        if now is not None:
            self.touch([now.key])
            self._adapters[now.key] = now

    def build(self, key: ModelKey, pods: Mapping[Uid, PodFacts], joined: Mapping[str, tuple[Uid, ...]]) -> ModelView:
        # Keyed pods keep their place whatever the order of events was.
        own = tuple(sorted(self._pods[key].values(), key=_by_name))
        slices, facts = self._slices[key], self._adapters[key]
        adapter: AdapterView | None = None
        if slices or facts is not None:
            adapter = AdapterView(tuple(sorted(slices.values(), key=lambda each: each.uid)), facts)
        parent = ""
        if own or adapter is None:
            serving = [pod for pod in own if not pod.absent_because]
            endpoints = tuple([pod.endpoint for pod in serving])
        else:
            serving = _serving(adapter, pods, joined)
            endpoints = tuple([pod.endpoint_of(key.model) for pod in serving])
            parents = {pod.model for pod in serving}
            parent = (facts.base_model if facts is not None else "") or (parents.pop() if len(parents) == 1 else "")
        newest_s = max((pod.ready_since_s for pod in serving), default=0.0)
        return ModelView(key, endpoints, own, adapter, parent, newest_s, _config(serving or own))


def _config(pods: Iterable[PodFacts]) -> ModelConfig:
    """Return what the newest of the pods says: a change that is rolled out counts from the first pod on that has it."""
    said = max(((pod.created_at, pod.name, pod.config) for pod in pods if pod.config), default=None)
    return parse_model_config(said[2]) if said is not None else UNCONFIGURED


def _serving(
    adapter: AdapterView, pods: Mapping[Uid, PodFacts], joined: Mapping[str, tuple[Uid, ...]]
) -> list[PodFacts]:
    """Return the pods that serve an adapter now, sorted by name."""
    ready: dict[Uid, PodFacts] = {}
    leaving: dict[Uid, PodFacts] = {}
    for each in adapter.slices:
        for endpoint in each.endpoints:
            pod = _pod_of(endpoint.pod_uid, _place(each.namespace, endpoint.address), pods, joined)
            if pod is None or not (endpoint.is_ready or endpoint.is_serving):
                continue
            if endpoint.is_ready and not pod.absent_because:
                ready[pod.uid] = pod
            elif pod.is_draining or not pod.absent_because:
                leaving[pod.uid] = pod
    if not adapter.slices and adapter.facts is not None:
        for name in adapter.facts.instances:
            pod = _pod_of(Uid(""), _named(adapter.facts.namespace, name), pods, joined)
            if pod is not None and not pod.absent_because:
                ready[pod.uid] = pod
    return sorted((ready or leaving).values(), key=_by_name)


def _pod_of(
    uid: Uid, reference: str, pods: Mapping[Uid, PodFacts], joined: Mapping[str, tuple[Uid, ...]]
) -> PodFacts | None:
    if uid:
        return pods.get(uid)
    # An address may be that of a pod that has finished as well, and of the one that got it afterwards.
    found = [pods[candidate] for candidate in joined.get(reference, ())]
    return min(found, key=lambda pod: (bool(pod.absent_because), not pod.is_draining, pod.uid), default=None)


def _by_name(pod: PodFacts) -> tuple[str, Uid]:
    return pod.name, pod.uid


def _place(namespace: str, address: str) -> str:
    return f"{namespace}/{address}"


def _named(namespace: str, name: str) -> str:
    return f"{namespace}//{name}"


def _references_of(pod: PodFacts) -> tuple[str, ...]:
    """Return by what adapters may refer to a pod: its UID, its address, its name."""
    return pod.uid, _place(pod.namespace, pod.address), _named(pod.namespace, pod.name)


def _changed(before: Mapping[Uid, _Facts], changes: Mapping[Uid, _Facts | None]) -> dict[Uid, _Facts | None]:
    return {uid: facts for uid, facts in changes.items() if before.get(uid) != facts}


def _merged(before: Mapping[Uid, _Facts], changes: Mapping[Uid, _Facts | None]) -> Mapping[Uid, _Facts]:
    if not changes:
        return before
    merged = dict(before)
    for uid, facts in changes.items():
        if facts is None:
            del merged[uid]
        else:
            merged[uid] = facts
    return merged


def _joined_pods(view: ClusterView, changes: Mapping[Uid, PodFacts | None]) -> Mapping[str, tuple[Uid, ...]]:
    """Return which pods an address or a name stands for, after the changes."""
    moves: list[tuple[Uid, tuple[str, ...], tuple[str, ...]]] = []
    for uid, now in changes.items():
        before = view.pods.get(uid)
        old = _references_of(before)[1:] if before is not None else ()
        new = _references_of(now)[1:] if now is not None else ()
        if old != new:
            moves.append((uid, old, new))
    if not moves:
        return view.joins.pods
    joined = dict(view.joins.pods)
    for uid, old, new in moves:
        for reference in old:
            _leave(joined, reference, uid)
        for reference in new:
            joined[reference] = (*joined.get(reference, ()), uid)
    return joined


def _joined_adapters(
    before: Mapping[str, tuple[ModelKey, ...]],
    models: Mapping[ModelKey, ModelView],
    changed: Mapping[ModelKey, ModelView],
) -> Mapping[str, tuple[ModelKey, ...]]:
    """Return which adapters refer to a pod by a reference, after the models changed."""
    joined = dict(before)
    for key, now in changed.items():
        old_model = models.get(key)
        old = old_model.adapter.references() if old_model is not None and old_model.adapter is not None else set()
        new = now.adapter.references() if now.adapter is not None else set()
        for reference in old - new:
            _leave(joined, reference, key)
        for reference in new - old:
            joined[reference] = (*joined.get(reference, ()), key)
    return joined


_Member = TypeVar("_Member", Uid, ModelKey)


def _leave(joined: dict[str, tuple[_Member, ...]], reference: str, member: _Member) -> None:
    rest = tuple(each for each in joined[reference] if each != member)
    if rest:
        joined[reference] = rest
    else:
        del joined[reference]


def _hosts(view: ClusterView, changes: Mapping[Uid, PodFacts | None]) -> Mapping[str, Endpoint]:
    if not changes:
        return view.by_host
    hosts = dict(view.by_host)
    for uid in changes:
        before = view.pods.get(uid)
        # The address may be another pod's by now.
        if before is not None and (held := hosts.get(before.host)) is not None and held.id.pod_uid == uid:
            del hosts[before.host]
    for now in changes.values():
        if now is not None and not now.absent_because:
            hosts[now.host] = now.endpoint
    return hosts


class _Homes(TypedDict):
    namespaces: Mapping[str, tuple[str, ...]]
    at_home: Mapping[str, ModelView]


def _homes(view: ClusterView, models: Mapping[ModelKey, ModelView], changed: Iterable[ModelKey]) -> _Homes:
    """Return in which namespaces each name is, given what `view` had and what changed since; nothing ever leaves."""
    namespaces, at_home = dict(view.namespaces), dict(view.at_home)
    for key in changed:
        if key not in view.models:
            namespaces[key.model] = tuple(sorted((*namespaces.get(key.model, ()), key.namespace)))
        if len(namespaces[key.model]) == 1:
            at_home[key.model] = models[key]
        else:
            at_home.pop(key.model, None)
    return {"namespaces": namespaces, "at_home": at_home}
