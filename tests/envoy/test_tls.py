"""TLS towards clients, with a certificate that is replaced while Envoy runs."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.x509.oid import NameOID

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.xds import render_xds
from tests.support.certificates import Authority
from tests.support.gateway_parts import eventually
from tests.support.real_envoy import CHAT, Gateway, start_gateway


class Mount:
    """A directory as the kubelet mounts a Secret: files are links into `..data`, which is replaced by a rename."""

    def __init__(self, place: Path, authority: Authority) -> None:
        self.place = place
        self._authority = authority
        self._version = 0
        place.mkdir()
        self.replace("first.test")
        for name in ("tls.crt", "tls.key"):
            (place / name).symlink_to(f"..data/{name}")

    def replace(self, common_name: str) -> None:
        """Put a new certificate there, at once."""
        self._version += 1
        data = self.place / f"..version-{self._version}"
        data.mkdir()
        certificate, key = self._authority.issue(common_name, is_server=True)
        (data / "tls.crt").write_bytes(certificate)
        (data / "tls.key").write_bytes(key)
        link = self.place / "..data_tmp"
        link.symlink_to(data.name)
        os.replace(link, self.place / "..data")


@dataclass
class World:
    gateway: Gateway
    mount: Mount
    trust: ssl.SSLContext

    async def handshake(self, *alpn: str) -> tuple[str, str | None]:
        """Return the name in the certificate that a new connection is shown, and the protocol that was agreed on."""
        if alpn:
            self.trust.set_alpn_protocols(list(alpn))
        config = self.gateway.config
        _, writer = await asyncio.open_connection(config.address, config.port, ssl=self.trust)
        wire: ssl.SSLObject = writer.get_extra_info("ssl_object")
        shown = x509.load_der_x509_certificate(wire.getpeercert(binary_form=True) or b"")
        writer.close()
        name = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return str(name), wire.selected_alpn_protocol()


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority()
    mount = Mount(tmp_path / "tls", authority)
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    async with AsyncExitStack() as stack:
        gateway = await start_gateway(
            stack,
            client_tls=trust,
            tls_certificate_path=str(mount.place / "tls.crt"),
            tls_key_path=str(mount.place / "tls.key"),
        )
        yield World(gateway, mount, trust)


async def test_a_replaced_certificate_is_shown_without_a_restart_and_nothing_is_cut(world: World) -> None:
    gateway = world.gateway
    engine = gateway.engines[0]
    gateway.brain.route("default/m", engine.pod)
    assert (await world.handshake())[0] == "first.test"
    assert await world.handshake("h2", "http/1.1") == ("first.test", "h2")
    assert await world.handshake("http/1.1") == ("first.test", "http/1.1")
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        assert answer.status == 200
        seen = (await answer.json())["headers"]
    assert seen["x-forwarded-proto"] == "https"

    world.mount.replace("second.test")

    async def is_shown() -> bool:
        return (await world.handshake())[0] == "second.test"

    await eventually(is_shown)
    # The connection of before goes on.
    async with gateway.client.post(CHAT, json={"model": "m"}) as answer:
        assert answer.status == 200
    assert gateway.envoy.returncode is None


async def test_a_pair_that_does_not_match_leaves_the_old_one_in_use(world: World) -> None:
    data = world.mount.place / "..version-1"
    other = Authority().issue("other.test", is_server=True)[1]
    (data / "new.key").write_bytes(other)
    os.replace(data / "new.key", data / "tls.key")
    (world.mount.place / "..data_tmp").symlink_to(data.name)
    os.replace(world.mount.place / "..data_tmp", world.mount.place / "..data")

    async def is_rejected() -> bool:
        counted = await world.gateway.admin.stats(r".*(sds|ssl_context_update|key_rotation_failed).*")
        return any(count for name, count in counted.items() if name.endswith(("key_rotation_failed", "_rejected")))

    await eventually(is_rejected)
    assert (await world.handshake())[0] == "first.test"
    world.mount.replace("third.test")

    async def is_shown() -> bool:
        return (await world.handshake())[0] == "third.test"

    await eventually(is_shown)


async def test_plain_http_is_not_answered_where_tls_is(world: World) -> None:
    config = world.gateway.config
    reader, writer = await asyncio.open_connection(config.address, config.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(8)
    writer.close()


def test_without_a_certificate_nothing_of_tls_is_rendered() -> None:
    files = render_xds(GatewayConfiguration(), (), EnvoyPaths(Path("/run/p"), Path("/var/p")))
    assert "secrets.json" not in files
    (listener,) = msgspec.json.decode(files["listeners.json"])["resources"]
    assert "transport_socket" not in listener["filter_chains"][0]
