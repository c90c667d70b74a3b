"""Services that answer, and names that resolve, for real processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pybrix.api.core import Pod, Service
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import WholeCluster, whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
# Answers with the name of its pod; ready when a file says so.
_SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.uname().nodename.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
# Prints, again and again, what names resolve to and what a Service answers.
_CLIENT = """
import json, os, socket, sys, time, urllib.request
def addresses(name):
    try:
        return sorted({info[4][0] for info in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except OSError:
        return []
def answers(url):
    found = set()
    for _ in range(8):
        try:
            found.add(urllib.request.urlopen(url, timeout=5).read().decode())
        except OSError as error:
            found.add(type(error).__name__)
    return sorted(found)
while True:
    told = {name: addresses(name) for name in json.loads(sys.argv[1])}
    told["answers"] = answers("http://web/")
    told["self"] = [socket.gethostname(), *addresses(socket.gethostname())]
    told["api"] = urllib.request.urlopen("http://web-0.peers.default.svc:8000/").read().decode()
    print(json.dumps(told), flush=True)
    time.sleep(0.2)
"""
NAMES = [
    "web",
    "web.default.svc.cluster.local",
    "peers.default",
    "web-0.peers",
    "web-1.peers.default.svc",
    "kubernetes.default.svc",
    "nobody.default.svc",
]


def program(text: str, *args: str, **fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "local/python", "command": [sys.executable, "-c", text, *args], **fields}


def peers(replicas: int = 2) -> dict[str, Any]:
    port = {"name": "web-port", "containerPort": 8000}
    ready = {"httpGet": {"port": "web-port", "path": "/"}, "periodSeconds": 1}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "serviceName": "peers",
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [program(_SERVER, ports=[port], readinessProbe=ready)],
                    "terminationGracePeriodSeconds": 1,
                },
            },
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web-port"}], **spec},
    }


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def last_words(cluster: WholeCluster, pod: str) -> dict[str, Any]:
    # While it waits to start it has no log.
    lines = (await cluster.try_kubectl("logs", pod, "--tail=1")).out.splitlines()
    told: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return told


async def test_services_answer_by_address_and_name_and_follow_their_pods(tmp_path: Path) -> None:
    client = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client", "namespace": "default"},
        "spec": {"containers": [program(_CLIENT, json.dumps(NAMES))], "terminationGracePeriodSeconds": 1},
    }
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(peers(), service("web"), service("peers", clusterIP="None"))
        pods = [await cluster.until(Pod, f"web-{i}", lambda p: p.is_ready) for i in range(2)]
        ips = [p.status.pod_ip for p in pods]
        await cluster.apply(client)

        async def both_are_seen() -> bool:
            told = await last_words(cluster, "client")
            return bool(told and told["answers"] == ["web-0", "web-1"] and len(told["peers.default"]) == 2)

        await cluster.eventually(both_are_seen)
        told = await last_words(cluster, "client")
        web = await cluster.until(Service, "web", lambda s: s.spec.cluster_ip.startswith("127."))
        assert told["web"] == told["web.default.svc.cluster.local"] == [web.spec.cluster_ip]
        assert told["peers.default"] == sorted(ips)
        assert (told["web-0.peers"], told["web-1.peers.default.svc"]) == ([ips[0]], [ips[1]])
        assert told["nobody.default.svc"] == []
        me = await cluster.until(Pod, "client", lambda p: bool(p.status.pod_ip))
        assert told["self"] == ["client", me.status.pod_ip]
        assert told["api"] == "web-0"
        kubernetes = told["kubernetes.default.svc"][0]
        assert "ok" in await cluster.kubectl("--server", f"https://{kubernetes}", "get", "--raw", "/readyz")
        # From outside any pod the address answers, too.
        assert await get(f"http://{web.spec.cluster_ip}/") in ("web-0", "web-1")

        await cluster.kubectl("scale", "sts/web", "--replicas=1")

        async def one_is_left() -> bool:
            told = await last_words(cluster, "client")
            return bool(told and told["answers"] == ["web-0"] and told["web-1.peers.default.svc"] == [])

        await cluster.eventually(one_is_left)
        await cluster.kubectl("scale", "sts/web", "--replicas=0")

        async def is_refused() -> bool:
            try:
                await get(f"http://{web.spec.cluster_ip}/")
            except aiohttp.ClientConnectorError:
                return True
            except aiohttp.ClientError:
                # A connection that was taken up just before.
                return False
            return False

        await cluster.eventually(is_refused)


async def test_what_is_not_forwarded_says_so(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        udp = service("dns", ports=[{"port": 53, "protocol": "UDP"}])
        await cluster.apply(udp)
        event = await cluster.until_event("dns", "PortNotServed")
        assert "port 53 is UDP: this cluster forwards TCP alone" in event.message
        taken = service("far", clusterIP="10.0.0.7")
        ran = await cluster.try_kubectl("create", "-f", "-", stdin=json.dumps(taken))
        assert "is not in the valid range" in ran.err


async def test_addresses_survive_a_restart_and_those_of_another_network_are_replaced(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(service("web"))
        before = await cluster.until(Service, "web", lambda s: bool(s.spec.cluster_ip))
    async with whole_cluster(tmp_path) as cluster:
        after = await cluster.until(Service, "web", lambda s: bool(s.spec.cluster_ip))
    assert before.spec.cluster_ip == after.spec.cluster_ip
    (tmp_path / "cluster" / "pod-network").write_text("127.99.0.0/16\n")
    async with whole_cluster(tmp_path) as cluster:
        moved = await cluster.until(Service, "web", lambda s: bool(s.spec.cluster_ip))
        assert moved.spec.cluster_ip.startswith("127.163.")
        kubernetes = await cluster.until(Service, "kubernetes", lambda s: s.spec.cluster_ip == "127.163.0.1")
        url = f"https://{kubernetes.spec.cluster_ip}"

        async def is_answering() -> bool:
            return (await cluster.try_kubectl("--server", url, "get", "--raw", "/readyz")).code == 0

        await cluster.eventually(is_answering)
