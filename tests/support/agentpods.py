"""Pods for a node agent to run, and what is asked of them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pybrix.api.core import Pod
from tests.support.pods import make_container, make_pod

# Serves 200 on the wildcard address of a port; knows SIGTERM only where it is told so.
SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path != "/broken" and not os.path.exists("broken")
        body = os.environ.get("ANSWER", "").encode()
        self.send_response(200 if ok else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


def shell(script: str, name: str = "main", **fields: Any) -> dict[str, Any]:
    return make_container(name, image="busybox", command=["sh", "-c", script], **fields)


def server(*flags: str, port: int = 21220, **fields: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", SERVER, str(port), *flags]
    probe = {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1}
    return make_container(image="any", command=command, **({"readinessProbe": probe} | fields))


def pod_of(name: str, *containers: dict[str, Any], **fields: Any) -> Pod:
    return make_pod(name, *containers, **fields)


def phase(want: str) -> Callable[[Pod], bool]:
    return lambda pod: pod.status.phase == want


def is_ready(pod: Pod) -> bool:
    return pod.is_ready


def terminated(pod: Pod) -> bool:
    return all(s.state.terminated is not None for s in pod.status.container_statuses)


def waiting(reason: str) -> Callable[[Pod], bool]:
    def check(pod: Pod) -> bool:
        return any(s.state.waiting and s.state.waiting.reason == reason for s in pod.status.container_statuses)

    return check


def restarts(pod: Pod) -> int:
    return sum(s.restart_count for s in pod.status.container_statuses)


async def read_log(chunks: AsyncIterator[bytes]) -> str:
    return b"".join([chunk async for chunk in chunks]).decode()


def container_id_of(record: Path) -> str:
    """Return the id of the container that a run's record tells of; one that nobody has when it is going away."""
    try:
        text = record.read_text()
    except FileNotFoundError:
        return "gone"
    if '"container_id":"' not in text:
        return "gone"
    start = text.index('"container_id":"') + len('"container_id":"')
    return text[start : text.index('"', start)]
