"""Render what a KVCachePool is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pybrix.api.config import KVCacheConfiguration
from pybrix.api.identity import ObjectKey
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool, ManagedMetadata
from pybrix.api.names import MODEL_NAME
from pybrix.controllers.cachecluster.blueprint import (
    KIND_LABEL,
    NAME_LABEL,
    ROLE_CACHE,
    ROLE_METADATA,
    Blueprint,
    MemberSource,
    Seen,
)
from pybrix.controllers.cachecluster.managed import (
    PASSWORD,
    USERNAME,
    ManagedSpec,
    field_variable,
    render_etcd,
    render_redis,
    render_secret,
    secret_variable,
)
from pybrix.controllers.cachecluster.templates import overlay
from pybrix.controllers.cachecluster.vineyard import (
    METADATA_REPLICAS,
    SOCKET_DIRECTORY,
    is_vineyardd,
    vineyardd_command,
)
from pybrix.controllers.kvcachepool.metadata import (
    Metadata,
    has_password,
    managed_name,
    metadata_of,
    secret_name,
)

POOL = "kvcache.aibrix.ai/pool"
ROLE = "kvcache.aibrix.ai/role"
CONTAINER = "kvcache"
_HOSTNAME = "kubernetes.io/hostname"


def pool_labels(pool: KVCachePool) -> dict[str, str]:
    """Return the labels of everything that is made for a pool."""
    return {POOL: pool.metadata.name, KIND_LABEL: pool.gvk.plural, NAME_LABEL: pool.metadata.name}


def labels_of(pool: KVCachePool, role: str) -> dict[str, str]:
    return {**pool_labels(pool), ROLE: role}


def blueprint(pool: KVCachePool, seen: Seen, config: KVCacheConfiguration) -> Blueprint:
    """Return what the pool shall be."""
    metadata = metadata_of(pool, seen, labels_of(pool, ROLE_METADATA), config.metadata_timeout_ms / 1000)
    children: list[Mapping[str, Any]] = []
    if metadata.managed is not None:
        children += _managed(pool, seen, metadata, config)
    children += [
        _service(pool, f"{pool.metadata.name}-headless-service", is_headless=True),
        _service(pool, pool.metadata.name),
        _stateful_set(pool, metadata, config),
    ]
    return Blueprint(
        replicas=pool.spec.replicas,
        members=MemberSource(labels_of(pool, ROLE_CACHE), pool.spec.service.port),
        workload=("StatefulSet", pool.metadata.name),
        children=tuple(children),
        server=metadata.server,
        keys=metadata.keys,
        managed=metadata.managed,
        unwanted_secrets=() if _is_secret_wanted(pool) else (secret_name(pool),),
        problem=metadata.problem,
        # Who the members of an etcd are is said when it is made.
        fixed={("StatefulSet", managed_name(pool, "etcd")): ("replicas",)},
        kind=metadata.kind,
        address=metadata.address,
    )


def _is_secret_wanted(pool: KVCachePool) -> bool:
    managed = pool.spec.effective_metadata.managed
    return managed is not None and has_password(pool, managed)


def _managed(pool: KVCachePool, seen: Seen, metadata: Metadata, config: KVCacheConfiguration) -> list[dict[str, Any]]:
    managed = pool.spec.effective_metadata.managed or ManagedMetadata()
    is_etcd = metadata.kind == "etcd"
    labels = labels_of(pool, ROLE_METADATA)
    secret = secret_name(pool) if has_password(pool, managed) else ""
    spec = ManagedSpec(
        ObjectKey(pool.metadata.namespace, managed_name(pool, metadata.kind)),
        labels,
        image=managed.image or (config.etcd_image if is_etcd else config.redis_image),
        replicas=managed.replicas if is_etcd else 1,
        storage=managed.storage,
        resources=managed.resources,
        secret=secret,
    )
    found = seen.secrets.get(secret) if secret else None
    made = []
    if found is not None and found.is_missing:
        made.append(render_secret(ObjectKey(pool.metadata.namespace, secret), labels, seen.password))
    return [*made, *(render_etcd(spec) if is_etcd else render_redis(spec))]


def _service(pool: KVCachePool, name: str, *, is_headless: bool = False) -> dict[str, Any]:
    port = {"name": "service", "port": pool.spec.service.port, "targetPort": pool.spec.service.port, "protocol": "TCP"}
    spec: dict[str, Any] = {"selector": labels_of(pool, ROLE_CACHE), "ports": [port]}
    spec |= {"clusterIP": "None"} if is_headless else {"type": pool.spec.service.type}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": pool.metadata.namespace, "labels": pool_labels(pool)},
        "spec": spec,
    }


def _stateful_set(pool: KVCachePool, metadata: Metadata, config: KVCacheConfiguration) -> dict[str, Any]:
    labels = labels_of(pool, ROLE_CACHE)
    built: dict[str, Any] = {"metadata": {"labels": labels}, "spec": _pod(pool, metadata, config)}
    if metadata.managed is not None and _is_shared(pool, metadata):
        built["metadata"]["annotations"] = {METADATA_REPLICAS: str(metadata.managed.replicas)}
    template = overlay(built, _written(pool))
    # Whatever is written: by these the pods are found.
    template["metadata"] = overlay(template["metadata"], {"labels": labels})
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": pool.metadata.name,
            "namespace": pool.metadata.namespace,
            "labels": pool_labels(pool),
        },
        "spec": {
            "replicas": pool.spec.replicas,
            # An update goes on when the members that are new have their slots.
            "minReadySeconds": config.member_min_ready_s,
            "serviceName": f"{pool.metadata.name}-headless-service",
            # An update takes one after the other all the same.
            "podManagementPolicy": "OrderedReady" if _is_shared(pool, metadata) else "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


def _written(pool: KVCachePool) -> dict[str, Any]:
    template = pool.spec.cache.template
    return {} if template is None else msgspec.to_builtins(template)


def _pod(pool: KVCachePool, metadata: Metadata, config: KVCacheConfiguration) -> dict[str, Any]:
    cache, port = pool.spec.cache, pool.spec.service.port
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": cache.image,
        "imagePullPolicy": cache.image_pull_policy,
        "env": overlay({"env": _environment(pool, metadata)}, {"env": list(cache.env)})["env"],
        "ports": [{"name": "service", "containerPort": port, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
    }
    if cache.resources:
        container["resources"] = dict(cache.resources)
    volumes: list[dict[str, Any]] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]
    mounts: list[dict[str, Any]] = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    if is_vineyardd(cache.image):
        is_shared = _is_shared(pool, metadata)
        volumes.append({"name": "sockets", "emptyDir": {}})
        mounts.append({"name": "sockets", "mountPath": SOCKET_DIRECTORY})
        container["command"] = vineyardd_command(
            port=port,
            resources=cache.resources,
            etcd_endpoint=_etcd_urls(metadata.address) if is_shared else "",
            etcd_prefix=metadata.keys.servers if is_shared and metadata.keys is not None else "",
        )
    container["volumeMounts"] = mounts
    pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
    if affinity := _affinity(pool, config):
        pod["affinity"] = affinity
    return pod


def _is_shared(pool: KVCachePool, metadata: Metadata) -> bool:
    """Say whether the members are vineyardds that find each other in etcd.

    Two of 0.24 that join at the same moment may both take the same rank, and one of them ends by an assertion: so they
    are started one after the other.
    """
    return is_vineyardd(pool.spec.cache.image) and metadata.kind == "etcd" and metadata.is_plain


def _etcd_urls(address: str) -> str:
    return ",".join(each if "://" in each else f"http://{each}" for each in address.split(", "))


def _environment(pool: KVCachePool, metadata: Metadata) -> list[dict[str, Any]]:
    """Return what a cache server may want to know, vineyardd's own names for it included."""
    prefix = "PYBRIX_KVCACHE"
    found = [
        field_variable("MY_POD_NAME", "metadata.name"),
        field_variable("MY_POD_NAMESPACE", "metadata.namespace"),
        field_variable("MY_POD_IP", "status.podIP"),
        field_variable("MY_NODE_NAME", "spec.nodeName"),
        # By this name vineyardd tells the others where it answers.
        field_variable("MY_HOST_NAME", "status.podIP"),
        {"name": f"{prefix}_POOL", "value": pool.metadata.name},
        {"name": f"{prefix}_PORT", "value": str(pool.spec.service.port)},
        {"name": f"{prefix}_METADATA_KIND", "value": metadata.kind},
        {"name": f"{prefix}_METADATA_ADDRESS", "value": metadata.address},
    ]
    if metadata.keys is not None:
        found.append({"name": f"{prefix}_MEMBERSHIP_KEY", "value": metadata.keys.record})
    secret = _credentials(pool)
    if secret:
        found += [
            secret_variable(f"{prefix}_METADATA_USERNAME", secret, USERNAME, is_optional=True),
            secret_variable(f"{prefix}_METADATA_PASSWORD", secret, PASSWORD),
        ]
    return found


def _credentials(pool: KVCachePool) -> str:
    metadata = pool.spec.effective_metadata
    if metadata.managed is not None:
        return secret_name(pool) if has_password(pool, metadata.managed) else ""
    brought = metadata.etcd or metadata.redis
    reference = brought.credentials_secret_ref if brought is not None else None
    return reference.name if reference is not None else ""


def _affinity(pool: KVCachePool, config: KVCacheConfiguration) -> dict[str, Any]:
    """Return where the members run: on nodes of the GPU, near the model's pods, and apart from each other."""
    apart = {"labelSelector": {"matchLabels": labels_of(pool, ROLE_CACHE)}, "topologyKey": _HOSTNAME}
    # Preferred only: a pool may have more members than there are nodes.
    found: dict[str, Any] = {"podAntiAffinity": _preferred(apart)}
    scheduler = pool.spec.scheduler
    if scheduler is None:
        return found
    if scheduler.gpu_type:
        expression = {
            "key": scheduler.gpu_type_key or config.gpu_type_key,
            "operator": "In",
            "values": [scheduler.gpu_type],
        }
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        found["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    if scheduler.affinity_workload:
        # Preferred only: engines that wait for their cache and a cache that waits for engines would wait for ever.
        near = {"labelSelector": {"matchLabels": {MODEL_NAME: scheduler.affinity_workload}}, "topologyKey": _HOSTNAME}
        found["podAffinity"] = _preferred(near)
    return found


def _preferred(term: Mapping[str, Any]) -> dict[str, Any]:
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": dict(term)}]}
