"""The KVCachePool controller: what the kind says of itself to `cachecluster.reconciler`, and its registration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pybrix.api.apps import StatefulSet
from pybrix.api.config import KVCacheConfiguration
from pybrix.api.core import ConfigMap, Service
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.controllers.cachecluster.blueprint import Blueprint, SecretUse, Seen
from pybrix.controllers.cachecluster.conditions import Pass, transitions
from pybrix.controllers.cachecluster.permissions import permissions_of
from pybrix.controllers.cachecluster.reconciler import CacheReconciler
from pybrix.controllers.cachecluster.statuses import status_write
from pybrix.controllers.kvcachepool.metadata import destination_of, secrets_of, with_destination
from pybrix.controllers.kvcachepool.render import POOL, blueprint
from pybrix.controllers.kvcachepool.status import next_status
from pybrix.controllers.registration import Registration, Setup
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Action
from pybrix.runtime.controller import Controller

NAME = "kvcachepool"


class PoolKind:
    """Implements `CacheKind`."""

    cls = KVCachePool
    name = NAME
    children = (StatefulSet, Service, ConfigMap)

    def __init__(self, config: KVCacheConfiguration) -> None:
        self._config = config

    def secrets_of(self, obj: KVCachePool) -> Sequence[SecretUse]:
        return secrets_of(obj)

    def labels_of(self, obj: KVCachePool) -> Mapping[str, str]:
        return {POOL: obj.metadata.name}

    def keys_of_labels(self, labels: Mapping[str, str]) -> Iterable[str]:
        return (labels[POOL],) if labels.get(POOL) else ()

    def destination_of(self, obj: KVCachePool) -> Any:
        return destination_of(obj)

    def with_destination(self, obj: KVCachePool, destination: Any) -> KVCachePool:
        return with_destination(obj, destination)

    def blueprint(self, obj: KVCachePool, seen: Seen) -> Blueprint:
        return blueprint(obj, seen, self._config)

    def status(self, obj: KVCachePool, done: Pass, now: str) -> list[Action]:
        after = next_status(obj, done, now)
        written = status_write(obj, obj.status, after, f"{after.phase}: {after.ready_replicas} cache servers are ready")
        return [*written, *transitions(obj, obj.status.conditions, after.conditions)] if written else []


def _build(setup: Setup) -> Sequence[Controller]:
    return [CacheReconciler(setup, PoolKind(setup.config.kv_cache)).controller]


KVCACHEPOOL = Registration(
    NAME,
    kinds=(KVCachePool,),
    watches="KVCachePools, what is made for them, and their metadata servers",
    permissions=(
        *permissions_of(KVCachePool),
        # Credentials of a managed metadata server are made, and go with it; others are read by name.
        Permission("", ("secrets",), ("get", "create", "delete")),
        # A member of an old spec that never becomes ready.
        Permission("", ("pods",), ("delete",)),
    ),
    build=_build,
)
