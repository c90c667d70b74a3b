"""Stores over real servers: compare and set, leases, credentials, TLS, and what each failure is called."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pybrix.controllers.membership.errors import StoreError, Unreachable
from pybrix.controllers.membership.servers import open_store
from pybrix.controllers.membership.store import Server, Store, Stored
from tests.support.metadataservers import MetadataServer, running
from tests.support.redisserver import find_redis
from tests.support.waiting import until

KINDS = pytest.mark.parametrize("kind", ["etcd", "redis"])
KEY = "/t/{c}/membership"
GROUP = "/t/{c}/members/"


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Store]:
    store = open_store(server)
    try:
        yield store
    finally:
        await store.aclose()


async def get(store: Store, key: str = KEY) -> Stored | None:
    return (await store.read([key])).get(key)


async def reason(store: Store, act: Callable[[Store], Awaitable[object]] = get) -> str:
    """Return what a call fails with."""
    try:
        await act(store)
    except StoreError as err:
        return f"{err.reason if str(err) else 'silent'} {'known' if err.is_reachable else 'away'}"
    return "nothing"


async def put(store: Store) -> bool:
    return await store.swap("/t/{c}/new", b"x" * 100, await get(store, "/t/{c}/new"))


@KINDS
async def test_swaps_and_leases(kind: str) -> None:
    async with running(kind) as it, opened(it.server()) as store, opened(it.server()) as other:
        assert await get(store) is None
        assert await store.swap(KEY, b"1", None)
        # It is not absent any more, and what was read before is over.
        assert not await other.swap(KEY, b"2", None)
        first = await get(other)
        assert first is not None
        assert first.content == b"1"
        assert await other.swap(KEY, b"2", first)
        assert not await store.swap(KEY, b"3", first)
        assert not await store.swap(KEY, None, first)
        members = {f"{GROUP}{n}": b"m" for n in range(230)}
        await store.keep(GROUP, members, 60)
        assert len(await store.read(list(members))) == 230
        await store.keep(GROUP, {f"{GROUP}0": b"new"}, 60)
        left = await store.read(list(members))
        assert {key: stored.content for key, stored in left.items()} == {f"{GROUP}0": b"new"}
        # Another process goes on with the same members.
        await other.keep(GROUP, {f"{GROUP}0": b"new"}, 60)
        await other.swap("/t/{c}/members-of-others", b"x", None)
        await store.remove([KEY], [GROUP])
        assert set(await store.read([KEY, f"{GROUP}0", "/t/{c}/members-of-others"])) <= {"/t/{c}/members-of-others"}
        assert await get(store, "/t/{c}/members-of-others") is not None


@KINDS
async def test_what_nobody_keeps_ends(kind: str) -> None:
    async with running(kind) as it, opened(it.server()) as store:
        await store.keep(GROUP, {f"{GROUP}a": b"1"}, 1)
        assert await store.read([f"{GROUP}a"])

        async def is_gone() -> bool:
            return not await store.read([f"{GROUP}a"])

        await until(is_gone)
        # The lease is over, and keeping goes on with another one.
        await store.keep(GROUP, {f"{GROUP}a": b"1"}, 60)
        assert await store.read([f"{GROUP}a"])


@KINDS
async def test_a_server_that_is_stopped_slow_and_back(kind: str) -> None:
    async with running(kind) as it, opened(it.server()) as store:
        await store.keep(GROUP, {f"{GROUP}a": b"1"}, 60)
        it.suspend()
        assert await reason(store) == "TimedOut away"
        it.resume()
        await until(lambda: _works(store))
        await it.stop()
        assert await reason(store) == "Unreachable away"
        await it.start()
        await until(lambda: _works(store), 20)
        await store.keep(GROUP, {f"{GROUP}a": b"1"}, 60)
        assert await store.read([f"{GROUP}a"])


async def _works(store: Store) -> bool:
    return await reason(store) == "nothing"


@KINDS
async def test_tls_and_passwords(kind: str) -> None:
    async with running(kind, is_tls=True, password="right") as it:
        user = "root" if kind == "etcd" else ""
        good = it.server(username=user, password="right")
        assert good.tls is not None
        async with opened(good) as store:
            assert await put(store)
        stranger = replace(good, tls=replace(good.tls, ca=""))
        # With client certificates given, those of another authority are refused; here the server's own is unknown.
        cases = {
            "wrong password": (replace(good, password="wrong"), "AuthenticationFailed away"),
            "no password": (replace(good, username="", password=""), "AuthenticationFailed away"),
            "no TLS": (replace(good, tls=None), "TLSFailed away"),
            "an authority that nobody knows": (stranger, "TLSFailed away"),
            "a certificate for another name": (
                replace(good, tls=replace(good.tls, server_name="other.test")),
                "TLSFailed away",
            ),
            "no certificate at all": (replace(good, tls=replace(good.tls, certificate="no")), "TLSFailed away"),
        }
        nobody = replace(good.tls, certificate="", key="")
        cases["no certificate of ours"] = (replace(good, tls=nobody), "TLSFailed away")
        for what, (server, want) in cases.items():
            async with opened(server) as store:
                assert await reason(store) == want, what


@KINDS
async def test_tls_to_a_server_without(kind: str) -> None:
    async with running(kind) as it, running(kind, is_tls=True) as other:
        assert other.certificates is not None
        async with opened(it.server(tls=other.certificates.tls)) as store:
            assert await reason(store) == "TLSFailed away"


async def test_an_etcd_that_changes_its_users_and_restarts_is_logged_in_to_again() -> None:
    async with running("etcd", password="one") as it, opened(it.server(username="root", password="one")) as store:
        assert await put(store)
        await it.stop()
        await it.start()
        await until(lambda: _works(store), 20)
        assert await put(store)


async def test_an_etcd_without_authentication_takes_a_user_too() -> None:
    async with running("etcd") as it, opened(it.server(username="root", password="any")) as store:
        assert await put(store)


async def test_an_etcd_that_is_full() -> None:
    async with running("etcd", "--quota-backend-bytes", "200000") as it, opened(it.server()) as store:
        assert await store.swap(f"{GROUP}0", b"m", None)

        async def is_full() -> bool:
            write = await reason(store, lambda s: s.keep(GROUP, {f"{GROUP}{os.urandom(4).hex()}": b"x" * 60_000}, 60))
            return write == "NoSpace known"

        # How much it has is counted ten times a second.
        await until(is_full)
        assert await reason(store, put) == "NoSpace known"
        # What needs no space goes on: else nobody could leave.
        kept = await store.read([KEY, *(f"{GROUP}{n}" for n in range(3))])
        assert set(kept) == {f"{GROUP}0"}
        await store.remove([f"{GROUP}0"])
        assert await reason(store) == "nothing"
        assert await store.read([f"{GROUP}0"]) == {}


async def test_an_etcd_without_its_gateway() -> None:
    async with running("etcd", "--enable-grpc-gateway=false") as it, opened(it.server()) as store:
        assert await reason(store) == "NotSupported away"


async def test_an_etcd_user_without_rights() -> None:
    async with running("etcd", password="top") as it, opened(it.server(username="root", password="top")) as store:
        await store._call("auth/user/add", {"name": "guest", "password": "g"})  # type: ignore[attr-defined]
        async with opened(it.server(username="guest", password="g")) as guest:
            assert await reason(guest, put) == "PermissionDenied known"


async def test_the_members_of_an_etcd_are_asked_in_turn() -> None:
    async with running("etcd") as it:
        away = "127.0.0.1:1"
        async with opened(it.server(addresses=(away, it.address))) as store:
            assert await put(store)


async def test_a_redis_that_takes_no_writes() -> None:
    async with (
        running("redis") as it,
        running("redis", "--replicaof", "127.0.0.1", str(it.port)) as replica,
        opened(replica.server()) as store,
    ):
        await until(lambda: _works(store))
        assert await reason(store, put) == "ReadOnly known"


async def test_a_redis_that_is_full() -> None:
    async with running("redis", "--maxmemory", "1") as it, opened(it.server()) as store:
        assert await reason(store, put) == "NoSpace known"


async def test_a_redis_with_users() -> None:
    async with running("redis", "--user", "guest", "on", ">g", "~other*", "+@all") as it:
        async with opened(it.server(username="guest", password="g")) as store:
            assert await reason(store, put) == "PermissionDenied known"
        async with opened(it.server(username="guest", password="h")) as store:
            assert await reason(store, put) == "AuthenticationFailed away"


async def test_the_master_that_sentinels_know() -> None:
    async with running("redis") as master, running("redis", "--replicaof", "127.0.0.1", str(master.port)) as replica:
        async with _sentinel(master) as sentinel:
            server = master.server(addresses=("127.0.0.1:1", sentinel.address), mode="Sentinel", master_name="m")
            async with opened(server) as store:
                assert await put(store)
                # The Sentinel still names the old master while it is away, and then the new one.
                await until(lambda: _has_replica(sentinel), 30)
                await master.stop()
                assert (await reason(store)).endswith("away")
                await until(lambda: _works(store), 30)
                assert await put(store)
            async with opened(replace(server, master_name="other")) as store:
                assert await reason(store) == "NotSupported away"
        assert replica.port


@asynccontextmanager
async def _sentinel(master: MetadataServer) -> AsyncIterator[MetadataServer]:
    async with running("redis") as it:
        await it.stop()
        file = it.directory / "sentinel.conf"
        monitor = f"sentinel monitor m 127.0.0.1 {master.port} 1"
        file.write_text(f"{monitor}\nsentinel down-after-milliseconds m 500\nsentinel failover-timeout m 2000\n")
        it.options = ()
        it.command = lambda: [str(find_redis()), str(file), "--sentinel", "--port", str(it.port), "--bind", "127.0.0.1"]
        await it.start()
        yield it


async def _has_replica(sentinel: MetadataServer) -> bool:
    return bool(await sentinel.redis("SENTINEL", "REPLICAS", "m"))


async def test_the_node_of_a_cluster_that_has_the_key() -> None:
    flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    async with running("redis", *flags) as one, running("redis", *flags) as two:
        await one.redis("CLUSTER", "ADDSLOTS", *map(str, range(8192)))
        await two.redis("CLUSTER", "ADDSLOTS", *map(str, range(8192, 16384)))
        await one.redis("CLUSTER", "SET-CONFIG-EPOCH", "1")
        await two.redis("CLUSTER", "SET-CONFIG-EPOCH", "2")
        await one.redis("CLUSTER", "MEET", "127.0.0.1", str(two.port))

        async def is_whole() -> bool:
            said = [await each.redis("CLUSTER", "INFO") for each in (one, two)]
            return all("cluster_state:ok" in str(text) for text in said)

        await until(is_whole)
        for server in (one, two):
            async with opened(server.server(mode="Cluster")) as store:
                assert await put(store)
                assert await store.swap("/t/{other}/new", b"1", await get(store, "/t/{other}/new"))
        async with opened(one.server()) as single, opened(two.server()) as other:
            assert sorted([await reason(single), await reason(other)]) == ["NotSupported away", "nothing"]


@pytest.mark.parametrize("it", [Server("etcd", ("127.0.0.1:1",)), Server("redis", ("127.0.0.1:1",))], ids=str)
async def test_where_nobody_listens(it: Server) -> None:
    async with opened(it) as store:
        with pytest.raises(Unreachable, match=r"^127\.0\.0\.1:1: Connection refused$"):
            await store.read([KEY])


async def test_it_takes_no_task_with_it() -> None:
    """A store that was never used, and one that failed, are closed without a trace."""
    async with opened(Server("etcd", ("127.0.0.1:1",))) as store:
        assert await reason(store) == "Unreachable away"
    async with opened(Server("redis", ("127.0.0.1:1",))) as store:
        assert await reason(store) == "Unreachable away"
    assert len(asyncio.all_tasks()) == 1
