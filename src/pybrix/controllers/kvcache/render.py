"""Draw what a KVCache is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import msgspec

from pybrix.api.config import KVCacheConfiguration
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import Blueprint, Seen
from pybrix.controllers.cachecluster.children import is_controlled
from pybrix.controllers.cachecluster.managed import ManagedSpec, render_etcd, render_redis
from pybrix.controllers.kvcache.annotations import BACKEND, BACKENDS, backend_of, labels_of, ring_of
from pybrix.controllers.kvcache.backends import hpkv, infinistore, vineyard
from pybrix.controllers.kvcache.metadata import Metadata, managed_key, metadata_of
from pybrix.controllers.kvcache.parts import made_labels

_BACKENDS: Mapping[str, ModuleType] = {"vineyard": vineyard, "infinistore": infinistore, "hpkv": hpkv}


def blueprint(cache: KVCache, seen: Seen, config: KVCacheConfiguration) -> Blueprint:
    """Return what the cache shall be."""
    name = backend_of(cache)
    backend = _BACKENDS.get(name)
    if backend is None:
        text = f"metadata.annotations[{BACKEND}]: {name!r} is no backend; there are {', '.join(BACKENDS)}"
        return Blueprint(0, vineyard.members(cache), vineyard.workload(cache), invalid=text)
    metadata = metadata_of(cache, seen, config.metadata_timeout_ms / 1000)
    slots, virtual_nodes = ring_of(cache)
    return Blueprint(
        replicas=cache.spec.cache.replicas,
        members=backend.members(cache),
        workload=backend.workload(cache),
        children=(*_managed(cache, metadata, config), *_settling(backend.children(cache, metadata), config)),
        server=metadata.server,
        keys=metadata.keys,
        managed=metadata.managed,
        problem=metadata.problem,
        invalid=metadata.invalid,
        slots=slots,
        virtual_nodes=virtual_nodes,
        # Pods that belong to the cache itself are AIBrix's: the watcher, and servers that nothing starts again.
        legacy_pods=tuple(pod.uid for pod in seen.pods if is_controlled(pod, cache)),
        fixed={("StatefulSet", managed_key(cache, "etcd").name): ("replicas",)},
        kind=metadata.kind or "",
        address=metadata.address,
    )


def _settling(children: Iterable[Mapping[str, Any]], config: KVCacheConfiguration) -> Iterator[Mapping[str, Any]]:
    """Let an update of the cache servers go on when those that are new have their slots."""
    for child in children:
        is_workload = child["kind"] in ("Deployment", "StatefulSet")
        more = {"minReadySeconds": config.member_min_ready_s} if is_workload else {}
        yield {**child, "spec": {**child["spec"], **more}}


def _managed(cache: KVCache, metadata: Metadata, config: KVCacheConfiguration) -> list[dict[str, Any]]:
    runtime = metadata.runtime
    if metadata.managed is None or runtime is None or metadata.kind is None:
        return []
    is_etcd = metadata.kind == "etcd"
    image = runtime.image or (cache.spec.cache.image if is_etcd else config.redis_image)
    template = None if runtime.template is None or is_etcd else msgspec.to_builtins(runtime.template)
    spec = ManagedSpec(
        managed_key(cache, metadata.kind),
        labels_of(cache, "metadata"),
        image=image,
        replicas=metadata.managed.replicas,
        image_pull_policy=runtime.image_pull_policy or "IfNotPresent",
        resources=runtime.resources,
        env=tuple(runtime.env),
        service_name=f"{cache.metadata.name}-etcd-service" if is_etcd else f"{cache.metadata.name}-redis",
        port_name="etcd-port" if is_etcd else "",
        template=template,
        made_labels=made_labels(cache),
    )
    return render_etcd(spec) if is_etcd else render_redis(spec)
