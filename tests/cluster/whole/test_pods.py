"""What a pod can be made of, with real processes, as kubectl sees it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import Pod
from tests.support.apiserver import KUBECTL, read_until, start_kubectl
from tests.support.wholecluster import WholeCluster, whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, flush=True)
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
_GRPC_SERVER = """
import concurrent.futures, grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
states = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(states, server)
states.set("model", health_pb2.HealthCheckResponse.SERVING)
server.add_insecure_port("0.0.0.0:8000")
server.start()
server.wait_for_termination()
"""


def shell(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "local/sh", "command": ["/bin/sh", "-c", script], **fields}


def pod(name: str, *containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 20, **spec},
    }


async def shown(cluster: WholeCluster, name: str) -> list[str]:
    """Return the row of a pod in `kubectl get pods`."""
    return (await cluster.kubectl("get", "pod", name, "--no-headers")).split()


async def until_shown(cluster: WholeCluster, name: str, status: str) -> list[str]:
    rows: list[list[str]] = []

    async def check() -> bool:
        rows.append(await shown(cluster, name))
        return rows[-1][2] == status

    await cluster.eventually(check)
    return rows[-1]


async def test_init_containers_sidecars_hooks_and_probes(tmp_path: Path) -> None:
    mount = {"volumeMounts": [{"name": "w", "mountPath": "/work"}]}
    ready = {"exec": {"command": ["test", "-e", "/work/side-ready"]}, "periodSeconds": 1}
    side = (
        "trap 'echo side-ended >>/work/order; exit 0' TERM; echo side >>/work/order; sleep 0.3; touch /work/side-ready;"
        "while :; do sleep 0.05; done"
    )
    broken = {"httpGet": {"port": 8000, "path": "/broken"}, "periodSeconds": 1}
    main = "echo main >>/work/order; cat /work/order"
    initial = [
        shell("one", "echo one >>/work/order", **mount),
        shell("side", side, restartPolicy="Always", startupProbe=ready, **mount),
        shell("two", "echo two >>/work/order", **mount),
    ]
    volumes = [{"name": "w", "hostPath": {"path": str(tmp_path / "w"), "type": "DirectoryOrCreate"}}]
    server = {
        "name": "main",
        "image": "local/python",
        "command": [sys.executable, "-uc", _SERVER],
        "livenessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "readinessProbe": {"httpGet": {"port": 8000, "path": "/ready"}, "periodSeconds": 1},
        "lifecycle": {
            "postStart": {"exec": {"command": ["/bin/sh", "-c", f"echo post >>{tmp_path}/hooks"]}},
            "preStop": {"httpGet": {"port": 8000, "path": "/bye"}},
        },
    }
    stopped = {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"echo pre >>{tmp_path}/hooks"]}}}
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(
            pod("batch", shell("main", main, **mount), initContainers=initial, volumes=volumes, restartPolicy="Never"),
            pod("web", server, shell("aside", "exec sleep 1000", lifecycle=stopped)),
            pod("broken", {**server, "livenessProbe": broken}),
            pod(
                "grpc",
                {
                    "name": "main",
                    "image": "local/python",
                    "command": [sys.executable, "-c", _GRPC_SERVER],
                    "readinessProbe": {"grpc": {"port": 8000, "service": "model"}, "periodSeconds": 1},
                },
            ),
        )
        # The sidecar is ready before what comes after it, and is ended after the last container.
        done = await cluster.until(Pod, "batch", lambda p: p.status.phase == "Succeeded")

        async def all_have_ended() -> bool:
            return (tmp_path / "w" / "order").read_text().split() == ["one", "side", "two", "main", "side-ended"]

        await cluster.eventually(all_have_ended)
        assert [s.name for s in done.status.init_container_statuses] == ["one", "side", "two"]
        await cluster.until(Pod, "web", lambda p: p.is_ready)
        assert (await shown(cluster, "web"))[1] == "2/2"
        await cluster.until(Pod, "grpc", lambda p: p.is_ready)
        await cluster.until(Pod, "broken", lambda p: p.status.container_statuses[0].restart_count > 0)
        assert "Liveness probe failed" in (await cluster.until_event("broken", "Unhealthy")).message
        log = await start_kubectl(cluster.kubeconfig, "logs", "-f", "web", "-c", "main")
        await read_until(log, "/ready")
        await cluster.kubectl("delete", "pod", "web")
        out, err = await log.communicate()
        assert "/bye" in out.decode(), err.decode()
        told = (tmp_path / "hooks").read_text().split()
        assert (told[0], told.count("pre")) == ("post", 1)


async def test_a_program_that_crashes_backs_off_and_its_last_words_can_be_read(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(
            pod("crash", shell("main", 'echo "run $(date +%s%N)"; exit 3')),
            pod("once", shell("main", "echo once; exit 3"), restartPolicy="Never"),
            pod("again", shell("main", "[ -e done ] && exit 0; touch done; exit 1"), restartPolicy="OnFailure"),
        )
        row = await until_shown(cluster, "crash", "CrashLoopBackOff")
        assert int(row[3]) >= 1
        crash = await cluster.until(Pod, "crash", lambda p: bool(p.status.container_statuses[0].last_state.terminated))
        (status,) = crash.status.container_statuses
        assert status.state.waiting is not None
        assert "back-off 10s restarting failed container" in status.state.waiting.message
        now, before = await cluster.kubectl("logs", "crash"), await cluster.kubectl("logs", "crash", "--previous")
        assert now.startswith("run ")
        assert before.startswith("run ")
        assert now != before
        assert (await until_shown(cluster, "once", "Error"))[1] == "0/1"
        await cluster.until(Pod, "again", lambda p: p.status.phase == "Succeeded")
        stamped = (await cluster.kubectl("logs", "once", "--timestamps", "--tail=1", "--since=1h")).split()
        assert stamped[0].startswith("20")
        assert stamped[1] == "once"
        assert await cluster.kubectl("logs", "once", "--since-time=2100-01-01T00:00:00Z") == ""


async def test_files_of_projected_volumes_follow_their_sources(tmp_path: Path) -> None:
    downward = {
        "items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
            {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "requests.memory"}},
        ]
    }
    sources = [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "keys", "items": [{"key": "token", "path": "secret/token"}]}},
        {"downwardAPI": downward},
    ]
    resources = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    script = (
        "while :; do for f in mode labels cpu memory secret/token; do "
        "printf '%s ' \"$(cat /etc/box/$f | tr '\\n' ,)\"; done; echo; sleep 0.1; done"
    )
    mounts = [{"name": "box", "mountPath": "/etc/box"}]
    async with whole_cluster(tmp_path) as cluster:
        await cluster.kubectl("create", "configmap", "settings", "--from-literal=mode=slow")
        await cluster.kubectl("create", "secret", "generic", "keys", "--from-literal=token=abc")
        await cluster.apply(
            pod(
                "box",
                shell("main", script, volumeMounts=mounts, resources=resources),
                labels={"app": "box"},
                volumes=[{"name": "box", "projected": {"sources": sources}}],
            )
        )
        await cluster.until_log("box", 'slow app="box" 500 67108864 abc', "--tail=1")
        await cluster.kubectl("patch", "configmap", "settings", "-p", json.dumps({"data": {"mode": "fast"}}))
        await cluster.kubectl("label", "pod", "box", "tier=front")
        await cluster.until_log("box", 'fast app="box",tier="front" 500 67108864 abc', "--tail=1")
