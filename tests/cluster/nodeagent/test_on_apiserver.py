"""The node agent on the embedded API server, as kubectl sees it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import SystemClock, format_rfc3339_micro
from pybrix.cluster.nodeagent.agent import NodeAgent
from pybrix.cluster.nodeagent.logs import NodeLogs
from pybrix.cluster.nodeagent.processes import marked_processes
from pybrix.cluster.nodeagent.tokens import TokenSource
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import NotFound
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.agents import claimed_network
from tests.support.apiserver import KUBECTL, RunningApiServer, running_api_server
from tests.support.pods import make_container
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


class LateLogs:
    """Logs of an agent that is made after the server."""

    def __init__(self) -> None:
        self.target: NodeLogs | None = None

    def read(self, namespace: str, name: str, container: str, **options: Any) -> AsyncIterator[bytes]:
        assert self.target is not None
        return self.target.read(namespace, name, container, **options)


@dataclass
class Installed:
    api: RunningApiServer
    client: HttpClient
    agent: NodeAgent

    async def kubectl(self, *args: str, stdin: str = "") -> str:
        ran = await self.api.kubectl(*args, stdin=stdin)
        assert ran.code == 0, ran.err
        return ran.out

    async def apply(self, name: str, *containers: dict[str, Any], **spec: Any) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "node-1", "containers": list(containers)} | spec,
        }
        await self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    async def get(self, name: str) -> Pod:
        return await self.client.get(Pod, ObjectKey("default", name))

    async def is_gone(self, name: str) -> bool:
        try:
            await self.get(name)
        except NotFound:
            return True
        return False


@asynccontextmanager
async def installed(directory: Path, tokens: TokenSource | None = None) -> AsyncIterator[Installed]:
    logs = LateLogs()
    with claimed_network(directory) as pod_cidr:
        async with (
            running_api_server(directory, logs=logs) as api,
            HttpClient(load_kubeconfig(api.kubeconfig)) as client,
        ):
            agent = NodeAgent(
                client,
                node_name="node-1",
                data_dir=directory,
                clock=SystemClock(),
                environ=dict(os.environ),
                pod_cidr=pod_cidr,
                tokens=tokens or client,
                api_address=("127.0.0.1", api.server.port),
            )
            logs.target = agent.logs
            task = asyncio.get_running_loop().create_task(agent.run())
            async with asyncio.timeout(60):
                await agent.wait_started()
            try:
                yield Installed(api, client, agent)
            finally:
                await agent.stop_all(5.0)
                task.cancel()
                await asyncio.wait([task])


async def test_a_simulated_engine_from_apply_to_delete(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        probe = {"httpGet": {"path": "/health", "port": 21241}, "periodSeconds": 1}
        await it.apply("engine", make_container(args=["--model", "m", "--port", "21241"], readinessProbe=probe))
        await it.kubectl("wait", "--for=condition=Ready", "pod/engine", "--timeout=50s")
        columns = (await it.kubectl("get", "pod", "engine", "-o", "wide", "--no-headers")).split()
        assert columns[:4] == ["engine", "1/1", "Running", "0"]
        assert columns[5] == (await it.get("engine")).status.pod_ip
        assert "node-1" in columns
        container_id = (await it.get("engine")).status.container_statuses[0].container_id
        assert marked_processes(container_id)
        described = await it.kubectl("describe", "pod", "engine")
        assert "Started container main" in described
        await it.kubectl("delete", "pod", "engine", "--timeout=50s")
        assert marked_processes(container_id) == []


async def test_logs(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        script = "for i in 1 2 3; do echo line $i; done; while ! [ -e go ]; do sleep 0.01; done; echo end"
        await it.apply("p", make_container(image="busybox", command=["sh", "-c", script]), restartPolicy="Never")
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        following = asyncio.get_running_loop().create_task(it.kubectl("logs", "-f", "p"))

        async def has_lines() -> bool:
            return await it.kubectl("logs", "p") == "line 1\nline 2\nline 3\n"

        await until(has_lines)
        assert await it.kubectl("logs", "p", "--tail=1") == "line 3\n"
        uid = (await it.get("p")).uid
        (tmp_path / "pods" / uid / ".work" / "main" / "go").touch()
        assert await following == "line 1\nline 2\nline 3\nend\n"
        await it.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", "--timeout=50s")


async def test_a_forced_deletion_leaves_no_process(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        await it.apply("p", make_container(image="busybox", command=["sleep", "100"]))
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        container_id = (await it.get("p")).status.container_statuses[0].container_id
        await it.kubectl("delete", "pod", "p", "--force", "--grace-period=0")

        async def no_process() -> bool:
            return marked_processes(container_id) == []

        await until(no_process)


async def test_a_recreated_pod_runs_beside_the_old_process(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        stubborn = [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()",
        ]
        await it.apply("p", make_container(image="x", command=stubborn))
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        old = await it.get("p")
        await it.kubectl("delete", "pod", "p", "--force", "--grace-period=0")
        await it.apply("p", make_container(image="x", command=["sleep", "100"]))
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        new = await it.get("p")
        assert new.uid != old.uid
        assert new.status.pod_ip != old.status.pod_ip

        async def is_old_gone() -> bool:
            return marked_processes(old.status.container_statuses[0].container_id) == []

        await until(is_old_gone)
        assert marked_processes(new.status.container_statuses[0].container_id)


async def test_server_and_agent_stop_and_start_again(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        await it.apply("p", make_container(image="busybox", command=["sleep", "100"]))
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        before = await it.get("p")
    assert marked_processes(before.status.container_statuses[0].container_id) == []
    async with installed(tmp_path) as it:
        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        after = await it.get("p")
        assert (after.uid, after.status.pod_ip) == (before.uid, before.status.pod_ip)
        assert after.status.container_statuses[0].restart_count == 1
        await it.kubectl("delete", "pod", "p", "--grace-period=1", "--timeout=50s")
        assert await it.is_gone("p")
        nodes = (await it.kubectl("get", "nodes", "--no-headers")).split()
        assert nodes[:2] == ["node-1", "Ready"]


async def test_a_readiness_gate_is_opened_by_somebody_else(tmp_path: Path) -> None:
    gate = "example.com/loaded"
    async with installed(tmp_path) as it:
        container = make_container(image="x", command=["sleep", "100"])
        await it.apply("p", container, readinessGates=[{"conditionType": gate}])
        await it.kubectl("wait", "--for=condition=ContainersReady", "pod/p", "--timeout=50s")
        assert not (await it.get("p")).is_ready
        for status, wanted in (("True", "True"), ("False", "False")):
            # A strategic merge: the other conditions are the node's.
            patch = {"status": {"conditions": [{"type": gate, "status": status}]}}
            await it.kubectl("patch", "pod", "p", "--subresource=status", "-p", json.dumps(patch))
            await it.kubectl("wait", f"--for=condition=Ready={wanted}", "pod/p", "--timeout=50s")
            kept = {c.type: c.status for c in (await it.get("p")).status.conditions}
            assert kept[gate] == status


_ASK = """
import asyncio, os, sys
from pybrix.api.core import ConfigMap
from pybrix.api.identity import ObjectKey
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_in_cluster

async def main():
    access = load_in_cluster(os.environ)
    async with HttpClient(access) as client:
        found = await client.get(ConfigMap, ObjectKey(access.namespace, "kube-root-ca.crt"))
        print(found.metadata.namespace, found.data["ca.crt"] == access.ca.decode())

asyncio.run(main())
"""


async def test_a_program_in_a_pod_reaches_the_api_as_its_account(tmp_path: Path) -> None:
    async with installed(tmp_path) as it:
        await it.apply("p", make_container(image="x", command=[sys.executable, "-c", _ASK]), restartPolicy="Never")
        await it.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/p", "--timeout=50s")
        assert await it.kubectl("logs", "p") == "default True\n"


async def test_a_token_is_renewed_in_time(tmp_path: Path) -> None:
    source = _Tokens()
    async with installed(tmp_path, tokens=source) as it:
        script = 'while cat "$0/token" && sleep 0.05; do echo; done'
        directory = "/var/run/secrets/kubernetes.io/serviceaccount"
        await it.apply("p", make_container(image="x", command=["sh", "-c", script, directory]))

        async def has_two() -> bool:
            return {"token-1", "token-2"} <= set((await it.kubectl("logs", "p")).split())

        await it.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=50s")
        await until(has_two)
        uid = (await it.get("p")).uid
        account, spec = source.asked[0]
        assert account == ObjectKey("default", "default")
        assert spec["boundObjectRef"] == {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}


class _Tokens:
    """Gives out tokens that end after a second."""

    def __init__(self) -> None:
        self.asked: list[tuple[ObjectKey, Mapping[str, Any]]] = []

    async def create_token(self, account: ObjectKey, spec: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((account, spec))
        ends = format_rfc3339_micro(SystemClock().now() + timedelta(seconds=1))
        return {"token": f"token-{len(self.asked)}", "expirationTimestamp": ends}
