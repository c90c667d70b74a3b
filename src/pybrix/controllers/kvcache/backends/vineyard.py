"""vineyard: a Deployment of vineyardd, with the socket on the node for the engines there. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import ChildKey, MemberSource
from pybrix.controllers.cachecluster.managed import field_variable
from pybrix.controllers.cachecluster.templates import overlay
from pybrix.controllers.cachecluster.vineyard import METADATA_REPLICAS, vineyardd_command
from pybrix.controllers.kvcache.annotations import labels_of
from pybrix.controllers.kvcache.metadata import Metadata
from pybrix.controllers.kvcache.parts import cache_template, deployment, service

PORT = 9600
_SOCKET = "/var/run/vineyard.sock"


def workload(cache: KVCache) -> ChildKey:
    return "Deployment", cache.metadata.name


def members(cache: KVCache) -> MemberSource:
    return MemberSource(labels_of(cache, "cache"), PORT)


def children(cache: KVCache, metadata: Metadata) -> list[dict[str, Any]]:
    ports = [{"name": "vineyard-rpc", "port": PORT, "targetPort": PORT, "protocol": "TCP"}]
    kind = cache.spec.service.type if cache.spec.service is not None else ""
    template = cache_template(cache, _pod(cache, metadata))
    if metadata.managed is not None and _is_shared(metadata):
        replicas = {METADATA_REPLICAS: str(metadata.managed.replicas)}
        template = overlay(template, {"metadata": {"annotations": replicas}})
    return [
        service(cache, f"{cache.metadata.name}-rpc", ports, kind=kind or "ClusterIP"),
        deployment(cache, template),
    ]


def _pod(cache: KVCache, metadata: Metadata) -> dict[str, Any]:
    meta = cache.metadata
    env = [
        {"name": "VINEYARDD_UID", "value": meta.uid},
        {"name": "VINEYARDD_NAME", "value": meta.name},
        {"name": "VINEYARDD_NAMESPACE", "value": meta.namespace},
        field_variable("MY_NODE_NAME", "spec.nodeName"),
        field_variable("MY_POD_NAME", "metadata.name"),
        field_variable("MY_POD_NAMESPACE", "metadata.namespace"),
        field_variable("MY_UID", "metadata.uid"),
        field_variable("MY_POD_IP", "status.podIP"),
        field_variable("MY_HOST_NAME", "status.podIP"),
        field_variable("USER", "metadata.name"),
    ]
    container = {
        "name": "kvcache",
        "command": _command(cache, metadata),
        "env": env,
        "ports": [{"name": "rpc", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {"exec": {"command": ["ls", _SOCKET]}, "periodSeconds": 2},
        "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 60, "failureThreshold": 3},
        "volumeMounts": [
            {"name": "vineyard-socket", "mountPath": "/var/run"},
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "log", "mountPath": "/var/log/vineyard"},
        ],
    }
    sockets = {"path": f"/var/run/vineyard-kubernetes/{meta.namespace}/{meta.name}", "type": "DirectoryOrCreate"}
    return {
        "containers": [container],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [
            {"name": "vineyard-socket", "hostPath": sockets},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
            {"name": "log", "emptyDir": {}},
        ],
    }


def _is_shared(metadata: Metadata) -> bool:
    """Say whether the members find each other in an etcd."""
    return metadata.kind == "etcd" and metadata.is_plain and metadata.keys is not None


def _command(cache: KVCache, metadata: Metadata) -> list[str]:
    urls = [each if "://" in each else f"http://{each}" for each in metadata.address.split(",")]
    # In an etcd of its own it writes where AIBrix lets it, in one of others below its own keys.
    prefix = "/vineyard" if metadata.managed is not None or metadata.keys is None else metadata.keys.servers
    return vineyardd_command(
        port=PORT,
        resources=cache.spec.cache.resources,
        etcd_endpoint=",".join(urls) if _is_shared(metadata) else "",
        etcd_prefix=prefix,
        socket=_SOCKET,
    )
