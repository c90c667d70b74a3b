"""The KVCache controller: what the kind says of itself to `cachecluster.reconciler`, and its registration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pybrix.api.apps import Deployment, StatefulSet
from pybrix.api.config import KVCacheConfiguration
from pybrix.api.core import ConfigMap, Service
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import Blueprint, SecretUse, Seen
from pybrix.controllers.cachecluster.conditions import Pass, transitions
from pybrix.controllers.cachecluster.permissions import permissions_of
from pybrix.controllers.cachecluster.reconciler import CacheReconciler
from pybrix.controllers.cachecluster.statuses import status_write
from pybrix.controllers.kvcache.annotations import NAME as NAME_LABEL
from pybrix.controllers.kvcache.metadata import destination_of, secrets_of, with_destination
from pybrix.controllers.kvcache.render import blueprint
from pybrix.controllers.kvcache.status import next_status
from pybrix.controllers.registration import Registration, Setup
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Action
from pybrix.runtime.controller import Controller

NAME = "kvcache"


class KVCacheKind:
    """Implements `cachecluster.reconciler.CacheKind`."""

    cls = KVCache
    name = NAME
    children = (StatefulSet, Deployment, Service, ConfigMap)

    def __init__(self, config: KVCacheConfiguration) -> None:
        self._config = config

    def secrets_of(self, obj: KVCache) -> Sequence[SecretUse]:
        return secrets_of(obj)

    def labels_of(self, obj: KVCache) -> Mapping[str, str]:
        return {NAME_LABEL: obj.metadata.name}

    def keys_of_labels(self, labels: Mapping[str, str]) -> Iterable[str]:
        return (labels[NAME_LABEL],) if labels.get(NAME_LABEL) else ()

    def destination_of(self, obj: KVCache) -> Any:
        return destination_of(obj)

    def with_destination(self, obj: KVCache, destination: Any) -> KVCache:
        return with_destination(obj, destination)

    def blueprint(self, obj: KVCache, seen: Seen) -> Blueprint:
        return blueprint(obj, seen, self._config)

    def status(self, obj: KVCache, done: Pass, now: str) -> list[Action]:
        after = next_status(obj, done, now)
        written = status_write(obj, obj.status, after, f"{after.current} cache servers are ready")
        return [*written, *transitions(obj, obj.status.conditions, after.conditions)] if written else []


def _build(setup: Setup) -> Sequence[Controller]:
    return [CacheReconciler(setup, KVCacheKind(setup.config.kv_cache)).controller]


KVCACHE = Registration(
    NAME,
    kinds=(KVCache,),
    watches="KVCaches, what is made for them, and their metadata servers",
    permissions=(
        *permissions_of(KVCache),
        Permission("apps", ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
        # What AIBrix's controller made and this one does without, and a member of an old spec that never becomes ready.
        Permission("", ("pods",), ("delete",)),
        Permission("", ("secrets",), ("get",)),
    ),
    build=_build,
)
