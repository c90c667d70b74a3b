"""`kubectl exec`, `cp`, `port-forward` and `attach` against real containers."""

from __future__ import annotations

import asyncio
import os
import pty
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import Pod
from pybrix.cluster.nodeagent.processes import marked_processes
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import WholeCluster, whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


def pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "box", "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [
                {
                    "name": "main",
                    "image": "local/sh",
                    "command": ["/bin/sh", "-c", "echo hello >/data/greeting; echo ready; exec sleep 1000"],
                    "env": [{"name": "COLOUR", "value": "blue"}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
        },
    }


async def in_terminal(cluster: WholeCluster, *args: str, typed: str) -> str:
    """Run kubectl with a terminal, type into it, and return what it showed."""
    assert KUBECTL is not None
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        KUBECTL, "--kubeconfig", str(cluster.kubeconfig), *args, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    os.write(master, typed.encode())
    shown = b""

    def read() -> bytes:
        try:
            return os.read(master, 4096)
        except OSError:
            return b""

    async with asyncio.timeout(60):
        while chunk := await asyncio.to_thread(read):
            shown += chunk
        await process.wait()
    os.close(master)
    return shown.decode()


async def _has_visitor(container_id: str) -> bool:
    return len(marked_processes(container_id, with_visitors=True)) > len(marked_processes(container_id))


async def test_commands_run_inside_containers(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(pod())
        box = await cluster.until(Pod, "box", lambda p: p.is_ready)
        await cluster.until_log("box", "ready")
        # Environment, files, host name and address are the container's.
        out = await cluster.kubectl(
            "exec", "box", "--", "/bin/sh", "-c", 'cat /data/greeting; echo "$COLOUR"; hostname'
        )
        assert out.split() == ["hello", "blue", "box"]
        ran = await cluster.try_kubectl("exec", "box", "--", "/bin/sh", "-c", "echo out; echo err >&2; exit 7")
        assert (ran.code, ran.out, ran.err.splitlines()[0]) == (7, "out\n", "err")
        # Input, its end, and much of it.
        text = "line\n" * 50_000
        ran = await cluster.try_kubectl("exec", "-i", "box", "--", "wc", "-l", stdin=text)
        assert ran.out.strip() == "50000", ran.err
        ran = await cluster.try_kubectl("exec", "-i", "box", "--", "cat", stdin=text)
        assert ran.out == text
        ran = await cluster.try_kubectl("exec", "box", "--", "no-such-program")
        assert ran.code == 127
        shown = await in_terminal(
            cluster, "exec", "-it", "box", "--", "/bin/sh", typed="tty && echo $((6*7))\nexit 0\n"
        )
        assert "/dev/pts/" in shown
        assert "42" in shown
        (tmp_path / "file").write_bytes(os.urandom(200_000))
        await cluster.kubectl("cp", str(tmp_path / "file"), "box:/data/copied")
        await cluster.kubectl("cp", "box:/data/copied", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()

        # A shell that ignores SIGTERM does not hold up the end of its container.
        await cluster.apply({**pod(), "metadata": {"name": "kept", "namespace": "default"}})
        await cluster.until(Pod, "kept", lambda p: p.is_ready)
        visitor = ("exec", "kept", "--", "/bin/sh", "-c", "trap '' TERM; echo here; while :; do sleep 0.1; done")
        visit = asyncio.create_task(cluster.try_kubectl(*visitor))
        kept = await cluster.until(Pod, "kept", lambda p: bool(p.status.container_statuses))
        container_id = kept.status.container_statuses[0].container_id
        await cluster.eventually(lambda: _has_visitor(container_id))
        # Long before its grace is over.
        async with asyncio.timeout(50):
            await cluster.kubectl("delete", "pod", "kept", "--grace-period=60")
            await visit

        ran = await cluster.try_kubectl("exec", "box", "-c", "other", "--", "true")
        assert "container other is not valid for pod box" in ran.err
        ran = await cluster.try_kubectl("port-forward", "box", "8080:80")
        assert f"connect to {box.status.pod_ip} and the port that box listens on" in ran.err
        ran = await cluster.try_kubectl("attach", "box")
        assert "kubectl logs -f" in ran.err
        ran = await cluster.try_kubectl("debug", "box", "--image", "busybox")
        assert "ephemeral containers are disabled for this cluster" in ran.err

        # The refusal that is shown is the one of the second try, over SPDY.
        ended = pod()
        ended["metadata"]["name"] = "ended"
        ended["spec"] |= {
            "restartPolicy": "Never",
            "initContainers": [{"name": "first", "image": "local/sh", "command": ["/bin/sh", "-c", "exit 0"]}],
        }
        ended["spec"]["containers"].append(
            {"name": "brief", "image": "local/sh", "command": ["/bin/sh", "-c", "exit 3"]}
        )
        await cluster.apply(ended)
        await cluster.until(
            Pod, "ended", lambda p: [bool(s.state.terminated) for s in p.status.container_statuses] == [False, True]
        )
        for container in ("first", "brief"):
            ran = await cluster.try_kubectl("exec", "ended", "-c", container, "--", "true")
            assert f'container "{container}" of pod ended is not running' in ran.err
