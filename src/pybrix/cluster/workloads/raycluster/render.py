"""The pods and the Service of a RayCluster, as KubeRay makes them, with Ray kept small enough for a laptop. Pure.

Labels, names, the environment, and how a container's own command is combined with `ray start` follow KubeRay
(`controllers/ray/common/pod.go`). Different here: each pod listens on its own loopback address; Ray gets one CPU and
80 MB for objects unless `rayStartParams` say otherwise, and neither dashboard nor autoscaler; probes are TCP, and no
program is started to find out that Ray is well, since `ray start --block` ends when one of its processes does.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from typing import Any

from pybrix.api.ray import (
    CLUSTER,
    GROUP,
    HEAD,
    HEAD_GROUP,
    IDENTIFIER,
    IS_RAY_NODE,
    NODE_TYPE,
    OVERWRITE_COMMAND,
    WORKER,
    RayCluster,
    WorkerGroup,
)

GCS_PORT = 6379
NODE_MANAGER_PORT = 6380
"""Of every node: it is open once the node runs."""
HEAD_ADDRESS = "cluster.pybrix.ai/ray-head"
"""Annotation of a worker: UID and address of the head that it was started for."""
START_COMMAND = "KUBERAY_GEN_RAY_START_CMD"
_RAY_VOLUME = "ray-files"
_RAY_DIRECTORY = "/tmp/ray"

_SMALL = {"num-cpus": "1", "object-store-memory": str(80 * 1024 * 1024)}
_FIXED = {"node-ip-address": "$(POD_IP)", "node-manager-port": str(NODE_MANAGER_PORT), "include-log-monitor": "false"}
_IGNORED = frozenset({"dashboard-host", "dashboard-port", "metrics-export-port", "block", "address", "port", "head"})
"""Parameters that mean nothing without a dashboard, or that are set here."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # A node that is lost is found within seconds; Ray's own defaults are made for large clusters.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
}


def head_name(cluster: RayCluster) -> str:
    return f"{cluster.metadata.name}-head"


def service_name(cluster: RayCluster) -> str:
    return f"{cluster.metadata.name}-head-svc"


def render_head(cluster: RayCluster, ray: str) -> dict[str, Any]:
    """Return the manifest of the head pod; applying it adds the owner."""
    group = cluster.spec.head_group_spec
    command = _start_command(
        ray,
        {"head": "true", "port": str(GCS_PORT), "include-dashboard": "false", "no-monitor": "true"},
        group.ray_start_params,
    )
    labels = _labels(cluster, HEAD, HEAD_GROUP)
    return _pod(head_name(cluster), cluster, group.template, labels, command, f"$(POD_IP):{GCS_PORT}", GCS_PORT)


def render_worker(
    cluster: RayCluster, group: WorkerGroup, number: int, head: str, head_ip: str, ray: str
) -> dict[str, Any]:
    """Return the manifest of a worker that joins a head.

    Args:
        head: UID of the head, and its address: a worker of another one can never join.
    """
    address = f"{head_ip}:{GCS_PORT}"
    command = _start_command(ray, {"address": address}, group.ray_start_params)
    name = f"{cluster.metadata.name}-{group.group_name}-worker-{number}"
    labels = _labels(cluster, WORKER, group.group_name)
    pod = _pod(name, cluster, group.template, labels, command, address, NODE_MANAGER_PORT)
    pod["metadata"]["annotations"][HEAD_ADDRESS] = head
    return pod


def render_service(cluster: RayCluster) -> dict[str, Any]:
    """Return the manifest of the head's Service, which gives it a name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(cluster),
            "namespace": cluster.metadata.namespace,
            "labels": _labels(cluster, HEAD, HEAD_GROUP),
        },
        "spec": {
            "clusterIP": "None",
            "selector": {CLUSTER: cluster.metadata.name, NODE_TYPE: HEAD},
            "ports": [{"name": "gcs-server", "port": GCS_PORT}],
            # Workers join a head that is not ready as a whole yet.
            "publishNotReadyAddresses": True,
        },
    }


def _labels(cluster: RayCluster, node_type: str, group: str) -> dict[str, str]:
    return {
        IS_RAY_NODE: "yes",
        CLUSTER: cluster.metadata.name,
        NODE_TYPE: node_type,
        GROUP: group,
        IDENTIFIER: f"{cluster.metadata.name}-{node_type}"[:63],
        "app.kubernetes.io/name": "kuberay",
        "app.kubernetes.io/created-by": "kuberay-operator",
    }


def _pod(
    name: str,
    cluster: RayCluster,
    template: Mapping[str, Any],
    labels: dict[str, str],
    command: str,
    address: str,
    port: int,
) -> dict[str, Any]:
    of_template = template.get("metadata") or {}
    spec = copy.deepcopy(dict(template.get("spec") or {}))
    annotations = dict(of_template.get("annotations") or {})
    is_own_command = annotations.get(OVERWRITE_COMMAND) == "true"
    containers = [dict(c) for c in spec.get("containers") or [{"name": "ray"}]]
    containers[0] = _ray_container(containers[0], labels, command, address, port, is_own_command)
    spec["containers"] = containers
    if not any(v.get("name") == _RAY_VOLUME for v in spec.get("volumes") or ()):
        spec["volumes"] = [*(spec.get("volumes") or ()), {"name": _RAY_VOLUME, "emptyDir": {}}]
    # Ray waits for 30 s until its tasks end; there are none whose end would matter here.
    spec.setdefault("terminationGracePeriodSeconds", 5)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": cluster.metadata.namespace,
            "labels": {**(of_template.get("labels") or {}), **labels},
            "annotations": annotations,
        },
        "spec": spec,
    }


def _ray_container(
    container: dict[str, Any], labels: dict[str, str], command: str, address: str, port: int, is_own_command: bool
) -> dict[str, Any]:
    given = list(container.get("env") or ())
    known = {entry.get("name") for entry in given}
    added: list[dict[str, Any]] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "RAY_CLOUD_INSTANCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "RAY_CLUSTER_NAME", "value": labels[CLUSTER]},
        {"name": "RAY_NODE_TYPE_NAME", "value": labels[GROUP]},
        {"name": "RAY_PORT", "value": str(GCS_PORT)},
        {"name": "RAY_ADDRESS", "value": address},
        {"name": START_COMMAND, "value": command},
        *({"name": name, "value": value} for name, value in _ENVIRONMENT.items()),
    ]
    # POD_IP first: the others refer to it.
    container["env"] = [*(entry for entry in added if entry["name"] not in known), *given]
    if not is_own_command:
        own = " ".join([*(container.get("command") or ()), *(container.get("args") or ())])
        container["command"] = ["/bin/bash", "-c", "--"]
        container["args"] = [f"{own} && {command}" if own else command]
    container.setdefault(
        "readinessProbe",
        {"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 5},
    )
    mounts = list(container.get("volumeMounts") or ())
    if not any(mount.get("mountPath") == _RAY_DIRECTORY for mount in mounts):
        container["volumeMounts"] = [*mounts, {"name": _RAY_VOLUME, "mountPath": _RAY_DIRECTORY}]
    return container


def _start_command(ray: str, own: Mapping[str, str], given: Mapping[str, str]) -> str:
    chosen = {name: value for name, value in given.items() if name not in _IGNORED}
    parameters = {**_SMALL, **chosen, **own, **_FIXED, "disable-usage-stats": "true", "block": "true"}
    flags = [_flag(name, value) for name, value in parameters.items()]
    # `exec`: what ends the container ends Ray, and the other way round.
    return " ".join(["exec", shlex.quote(ray), "start", *flags])


def _flag(name: str, value: str) -> str:
    if value.lower() == "true":
        return f"--{name}"
    # $(NAME) is for the node agent, before any shell sees it.
    return f"--{name}={value if value.startswith('$(') else shlex.quote(value)}"
