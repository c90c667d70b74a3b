"""A real installation for end-to-end tests: `pybrix up` in a data directory of its own, and `kubectl` for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import msgspec
import psutil

PYBRIX = (sys.executable, "-m", "pybrix")
KUBECTL = str(Path(sys.executable).parent / "kubectl")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str

    def checked(self) -> str:
        assert self.returncode == 0, f"exit code {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self.stdout


async def run(*argv: str, env: dict[str, str] | None = None, timeout_s: float = 90) -> Finished:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def eventually(
    check: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 30, interval_s: float = 0.1
) -> None:
    """Ask until the answer is yes; for facts of other processes, which cannot be awaited."""
    deadline_s = monotonic() + timeout_s
    while not await check():
        assert monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(interval_s)


class Installation:
    """Handle of a running `pybrix up`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def up(self, *arguments: str, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
        """Start in the background and return when all is ready."""
        return subprocess.run(
            [*PYBRIX, "up", "--data-dir", str(self.data_dir), "--port", "0", "--detach", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def down(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PYBRIX, "down", "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = msgspec.json.decode((self.data_dir / "up.json").read_bytes())
        return content

    @property
    def gateway_url(self) -> str:
        return str(self.state["gateway_url"])

    def pid(self, component: str) -> int:
        """Return the process id that was recorded last; the process may be gone."""
        return int(self.state["processes"][component]["pid"])

    def process(self, component: str) -> psutil.Process:
        return psutil.Process(self.pid(component))

    async def kubectl(self, *arguments: str, timeout_s: float = 90) -> str:
        """Run kubectl and return what it printed; a failure fails the test."""
        return (
            await run(KUBECTL, *arguments, env={"KUBECONFIG": str(self.data_dir / "kubeconfig")}, timeout_s=timeout_s)
        ).checked()

    async def get_json(self, *arguments: str) -> dict[str, Any]:
        content: dict[str, Any] = msgspec.json.decode(await self.kubectl("get", *arguments, "-o", "json"))
        return content

    async def ask(
        self, model: str = "simulated", *, headers: dict[str, str] | None = None, path: str = "/v1/chat/completions"
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Send one small question; return status, decoded body and response headers (lower case)."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.post(self.gateway_url + path, json=body, headers=headers) as response,
        ):
            answer = msgspec.json.decode(await response.read())
            return response.status, answer, {k.lower(): v for k, v in response.headers.items()}

    def engine_processes(self, pod_ip: str, port: int = 8000) -> list[psutil.Process]:
        """Return the processes that listen on a pod's address."""
        return [
            psutil.Process(connection.pid)
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr == (pod_ip, port)
        ]
