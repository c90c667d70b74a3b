"""Parts of the children that the backends share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import KIND_LABEL, NAME_LABEL
from pybrix.controllers.cachecluster.managed import field_variable, with_labels
from pybrix.controllers.cachecluster.templates import overlay
from pybrix.controllers.kvcache.annotations import NAME, affinity_of, labels_of

RDMA_RESOURCE = "vke.volcengine.com/rdma"
POD_NETWORKS = "k8s.volcengine.com/pod-networks"
_RDMA_NETWORK = '[{"cniConf":{"name":"rdma"}}]'


def made_labels(cache: KVCache) -> dict[str, str]:
    """Return labels of everything that is made, beside those that select."""
    return {KIND_LABEL: cache.gvk.plural, NAME_LABEL: cache.metadata.name}


def service(
    cache: KVCache, name: str, ports: Sequence[Mapping[str, Any]], *, kind: str = "ClusterIP", is_headless: bool = False
) -> dict[str, Any]:
    spec: dict[str, Any] = {"selector": labels_of(cache, "cache"), "ports": [dict(port) for port in ports]}
    spec |= {"clusterIP": "None"} if is_headless else {"type": kind}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": cache.metadata.namespace,
            "labels": {NAME: cache.metadata.name, **made_labels(cache)},
        },
        "spec": spec,
    }


def cache_template(cache: KVCache, pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of the cache's pods: the built one with what the spec says, or what replaces it."""
    labels, runtime = labels_of(cache, "cache"), cache.spec.cache
    if runtime.template is not None:
        return with_labels(msgspec.to_builtins(runtime.template), labels)
    (container,) = pod["containers"]
    said: dict[str, Any] = {"image": runtime.image, "imagePullPolicy": runtime.image_pull_policy or "IfNotPresent"}
    if runtime.resources:
        said["resources"] = dict(runtime.resources)
    container = overlay({**container, **said}, {"env": list(runtime.env)})
    spec = {**pod, "containers": [container]}
    if affinity := affinity_of(cache):
        spec["affinity"] = affinity
    metadata: dict[str, Any] = {"labels": labels}
    if RDMA_RESOURCE in (runtime.resources.get("limits") or {}):
        metadata["annotations"] = {POD_NETWORKS: _RDMA_NETWORK}
    return {"metadata": metadata, "spec": spec}


def deployment(cache: KVCache, template: Mapping[str, Any]) -> dict[str, Any]:
    # One after the other, and none beside the old ones: several of a node would share its socket.
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    return _workload(cache, "Deployment", {"strategy": strategy}, template)


def stateful_set(cache: KVCache, template: Mapping[str, Any], service_name: str) -> dict[str, Any]:
    return _workload(cache, "StatefulSet", {"serviceName": service_name, "podManagementPolicy": "Parallel"}, template)


def _workload(cache: KVCache, kind: str, more: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    labels = labels_of(cache, "cache")
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {
            "name": cache.metadata.name,
            "namespace": cache.metadata.namespace,
            "labels": {**labels, **made_labels(cache)},
        },
        "spec": {
            "replicas": cache.spec.cache.replicas,
            "selector": {"matchLabels": labels},
            "template": dict(template),
            **more,
        },
    }


def server_pod(
    cache: KVCache,
    container: Mapping[str, Any],
    *,
    backend: str,
    rdma_port: int,
    admin_port: int,
    capabilities: Sequence[str],
    more_env: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the pod of a server that engines reach by RDMA."""
    meta = cache.metadata
    env = [
        field_variable("MY_HOST_NAME", "status.podIP"),
        field_variable("MY_NODE_NAME", "spec.nodeName"),
        field_variable("MY_POD_NAME", "metadata.name"),
        field_variable("MY_POD_NAMESPACE", "metadata.namespace"),
        field_variable("MY_POD_IP", "status.podIP"),
        field_variable("MY_UID", "metadata.uid"),
        {"name": "AIBRIX_KVCACHE_UID", "value": meta.uid},
        {"name": "AIBRIX_KVCACHE_NAME", "value": meta.name},
        {"name": "AIBRIX_KVCACHE_NAMESPACE", "value": meta.namespace},
        {"name": "AIBRIX_KVCACHE_BACKEND", "value": backend},
        {"name": "AIBRIX_KVCACHE_RDMA_PORT", "value": str(rdma_port)},
        {"name": "AIBRIX_KVCACHE_ADMIN_PORT", "value": str(admin_port)},
        *more_env,
    ]
    built = {
        "name": "kvcache-server",
        **container,
        "env": env,
        "ports": [
            {"name": "service", "containerPort": rdma_port, "protocol": "TCP"},
            {"name": "manage", "containerPort": admin_port, "protocol": "TCP"},
        ],
        # By RDMA nothing can be probed; the admin port answers when the server does.
        "readinessProbe": {"tcpSocket": {"port": admin_port}, "periodSeconds": 5},
        "securityContext": {"capabilities": {"add": list(capabilities)}},
        "volumeMounts": [{"name": "shared-mem", "mountPath": "/dev/shm"}],
    }
    return {
        "hostIPC": True,
        "containers": [built],
        "volumes": [{"name": "shared-mem", "emptyDir": {"medium": "Memory"}}],
    }


def distributed_children(
    cache: KVCache, pod: Mapping[str, Any], rdma_port: int, admin_port: int
) -> list[dict[str, Any]]:
    """Return StatefulSet and Services of a backend whose members have names of their own."""
    headless = f"{cache.metadata.name}-headless-service"
    wanted = cache.spec.service
    ports: list[dict[str, Any]] = [
        {"name": "service", "port": rdma_port, "targetPort": rdma_port, "protocol": "TCP"},
        {"name": "manage", "port": admin_port, "targetPort": admin_port, "protocol": "TCP"},
    ]
    if wanted is not None:
        ports = [msgspec.to_builtins(port) | {"protocol": port.protocol} for port in wanted.ports]
    made = [service(cache, headless, [_without_node_port(port) for port in ports], is_headless=True)]
    if wanted is not None and wanted.type not in ("", "ClusterIP"):
        # A headless Service can be of no other type: what is to be seen from outside has one of its own.
        made.append(service(cache, f"{cache.metadata.name}-service", ports, kind=wanted.type))
    return [*made, stateful_set(cache, cache_template(cache, pod), headless)]


def _without_node_port(port: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in port.items() if key != "nodePort"}
