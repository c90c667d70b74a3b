"""A metadata server as membership needs it: one interface for etcd and Redis.

server = Server("etcd", ("etcd-0:2379",), username="pool", password="...")
store = open_store(server)
found = await store.read(key)
if not await store.swap(key, content, expected=found): ...      # somebody else was first: read again
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pybrix.controllers.membership.errors import TlsFailed

Kind = Literal["etcd", "redis"]
Mode = Literal["Standalone", "Sentinel", "Cluster"]
DEFAULT_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is secured; texts are PEM. Without `ca` the system's authorities are trusted."""

    ca: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    server_name: str = ""

    def context(self) -> ssl.SSLContext:
        """Return the context of a client.

        Raises:
            TlsFailed: a text is no certificate, or no key of it.
        """
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
            if self.certificate:
                # The standard library reads a chain from a file only.
                with tempfile.TemporaryDirectory(prefix="pybrix-tls-") as directory:
                    file = Path(directory) / "client.pem"
                    file.touch(mode=0o600)
                    file.write_text(f"{self.certificate}\n{self.key}\n", encoding="utf-8")
                    context.load_cert_chain(file)
        except (ssl.SSLError, ValueError) as err:
            raise TlsFailed(f"the certificates of the Secret cannot be used: {err}") from err
        return context


@dataclass(frozen=True, slots=True)
class Server:
    """Where a metadata server is and how it is spoken to. Two that are equal share a connection.

    `addresses` are host:port of the members of an etcd, of one Redis, of Sentinels, or of nodes of a Redis Cluster.
    """

    kind: Kind
    addresses: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    tls: Tls | None = None
    mode: Mode = "Standalone"
    database: int = 0
    master_name: str = ""
    """The name that Sentinels know the master by."""
    sentinel_password: str = field(default="", repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S

    def __str__(self) -> str:
        return f"{self.kind} at {', '.join(self.addresses)}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A value, and what tells this write of it from another."""

    content: bytes
    token: str = ""


class Store(Protocol):
    """Every method raises `StoreError`; each answers within the server's timeout, or a small multiple of it."""

    async def read(self, keys: Sequence[str]) -> dict[str, Stored]:
        """Return what is stored under these keys, as the server has it now; absent keys are left out."""
        ...

    async def swap(self, key: str, content: bytes | None, expected: Stored | None) -> bool:
        """Write if the key still is as expected (None: absent); `content` None removes it. False: it is not."""
        ...

    async def keep(self, group: str, entries: Mapping[str, bytes], ttl_s: int) -> None:
        """Let exactly these keys of the group exist until `ttl_s` from now; others that were kept before go."""
        ...

    async def remove(self, keys: Sequence[str], prefixes: Sequence[str] = ()) -> None:
        """Remove keys, and in etcd everything that begins with one of the prefixes; what is kept there, too."""
        ...

    async def aclose(self) -> None: ...


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[::1]:port`.

    Raises:
        ValueError: there is no port.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
