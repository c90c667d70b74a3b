"""The Node object and its Lease: what this machine offers, and that its agent is alive."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import psutil
import structlog

from pybrix.api.core import Lease, LeaseSpec, Namespace, Node, NodeAddress, NodeSpec, NodeStatus, Taint
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Condition, ObjectMeta, set_condition
from pybrix.base.clock import Clock, format_rfc3339, format_rfc3339_micro
from pybrix.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from pybrix.kube.interface import Client
from pybrix.kube.patch import diff_merge_patch

_log = structlog.get_logger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_DURATION_S = 40
RENEW_INTERVAL_S = 10.0
"""As the kubelet: a quarter of the lease."""
STATUS_INTERVAL_S = 300.0
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def machine_capacity(max_pods: int = 110) -> dict[str, str]:
    """Return what this machine has: CPUs, memory, disk of the root, and how many pods it takes."""
    return {
        "cpu": str(psutil.cpu_count() or 1),
        "memory": f"{psutil.virtual_memory().total // 1024}Ki",
        "ephemeral-storage": f"{psutil.disk_usage('/').total // 1024}Ki",
        "pods": str(max_pods),
    }


def machine_info(version: str) -> dict[str, str]:
    """Return `status.nodeInfo`."""
    try:
        os_image = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        os_image = "Linux"
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "containerRuntimeVersion": f"pybrix://{version}",
        "kernelVersion": platform.release(),
        "kubeletVersion": f"v{version}",
        "kubeProxyVersion": "",
        "operatingSystem": platform.system().lower(),
        "osImage": os_image,
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }


def render_node(
    name: str,
    *,
    capacity: Mapping[str, str],
    info: Mapping[str, str],
    host_ip: str,
    pod_cidr: str,
    labels: Mapping[str, str],
    taints: Sequence[Taint] = (),
) -> Node:
    """Return the Node as it is registered; its status goes through the subresource."""
    known = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": info.get("operatingSystem", "linux"),
        "kubernetes.io/arch": info.get("architecture", ""),
    }
    return Node(
        metadata=ObjectMeta(name=name, labels=known | dict(labels)),
        spec=NodeSpec(pod_cidr=pod_cidr, taints=list(taints)),
        status=NodeStatus(
            capacity=dict(capacity),
            allocatable=dict(capacity),
            addresses=[
                NodeAddress(type="InternalIP", address=host_ip),
                NodeAddress(type="Hostname", address=name),
            ],
            node_info=dict(info),
        ),
    )


def node_conditions(old: list[Condition], now: datetime, *, is_ready: bool) -> list[Condition]:
    """Return the conditions of the node, each with the time of this heartbeat."""
    stamp = format_rfc3339(now)
    wanted = [
        Condition(type="MemoryPressure", status="False", reason="KubeletHasSufficientMemory"),
        Condition(type="DiskPressure", status="False", reason="KubeletHasNoDiskPressure"),
        Condition(type="PIDPressure", status="False", reason="KubeletHasSufficientPID"),
        Condition(type="Ready", status="True", reason="KubeletReady", message="the node agent runs pods")
        if is_ready
        else Condition(type="Ready", status="False", reason="NodeStopping", message="the node agent stops"),
    ]
    conditions = old
    for condition in wanted:
        beating = msgspec.structs.replace(condition, last_heartbeat_time=stamp)
        conditions = set_condition(conditions, beating, stamp)
    return conditions


class NodeRegistration:
    """Keep the Node and its Lease fresh."""

    def __init__(self, client: Client, clock: Clock, node: Node) -> None:
        self._client = client
        self._clock = clock
        self._wanted = node
        self._key = ObjectKey("", node.metadata.name)
        self._lease_key = ObjectKey(LEASE_NAMESPACE, node.metadata.name)

    async def run(self) -> None:
        """Register and beat until cancelled; an API server that is away is tried again."""
        next_status_s = 0.0
        while True:
            wait_s = RENEW_INTERVAL_S
            try:
                if self._clock.monotonic_s() >= next_status_s:
                    await self.report(is_ready=True)
                    next_status_s = self._clock.monotonic_s() + STATUS_INTERVAL_S
                await self._renew()
            except KubeError as error:
                _log.warning("the node could not be reported", node=self._key.name, error=str(error))
                wait_s = 1.0
            await asyncio.sleep(wait_s)

    async def report(self, *, is_ready: bool) -> None:
        """Write the node's status, creating the node where it is not there."""
        try:
            node = await self._client.get(Node, self._key)
        except NotFound:
            try:
                node = await self._client.create(self._wanted)
            except AlreadyExists:
                node = await self._client.get(Node, self._key)
        missing = {k: v for k, v in self._wanted.metadata.labels.items() if node.metadata.labels.get(k) != v}
        spec = {} if node.spec.pod_cidr else {"podCIDR": self._wanted.spec.pod_cidr}
        if missing or spec:
            await self._client.patch(Node, self._key, {"metadata": {"labels": missing}, "spec": spec})
        status = msgspec.structs.replace(
            self._wanted.status,
            conditions=node_conditions(node.status.conditions, self._clock.now(), is_ready=is_ready),
        )
        before, after = node.to_dict().get("status", {}), Node(status=status).to_dict()["status"]
        # Resources that others added (a device plugin's, say) are left alone.
        patch = {k: v for k, v in diff_merge_patch(before, after).items() if v is not None}
        for kind in ("capacity", "allocatable"):
            patch[kind] = dict(self._wanted.status.capacity)
        await self._client.patch(Node, self._key, {"status": patch}, subresource="status")

    async def _renew(self) -> None:
        now = format_rfc3339_micro(self._clock.now())
        name = self._key.name
        try:
            await self._client.patch(Lease, self._lease_key, {"spec": {"renewTime": now, "holderIdentity": name}})
            return
        except NotFound:
            _log.info("creating the node's lease", node=name)
        lease = Lease(
            metadata=ObjectMeta(name=name, namespace=LEASE_NAMESPACE),
            spec=LeaseSpec(
                holder_identity=name, lease_duration_seconds=LEASE_DURATION_S, acquire_time=now, renew_time=now
            ),
        )
        try:
            await self._client.create(lease)
        except NotFound:
            await self._client.create(Namespace(metadata=ObjectMeta(name=LEASE_NAMESPACE)))
            await self._client.create(lease)
        except Conflict:
            return  # another agent of this name, or a lost answer: the next beat renews it
