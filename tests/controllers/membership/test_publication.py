"""Publishing over real servers: races lose no version, and nobody sees or touches what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import SystemClock
from pybrix.controllers.membership.errors import NoQuorum, StoreError, Unreachable
from pybrix.controllers.membership.keys import HPKV_KEY, INFINISTORE_KEY, Keys, cache_keys, pool_keys
from pybrix.controllers.membership.outcome import Wanted
from pybrix.controllers.membership.publication import Publisher
from pybrix.controllers.membership.records import Member, Record, decode
from pybrix.controllers.membership.servers import Connections, open_store
from pybrix.controllers.membership.store import Server
from tests.support.metadataservers import MetadataServer, etcd_cluster, running
from tests.support.waiting import until

KINDS = pytest.mark.parametrize("kind", ["etcd", "redis"])
USER = "uid-1"


def members(count: int, *, base: str = "10.0.0", name: str = "c") -> tuple[Member, ...]:
    return tuple(Member(f"{name}-{n}", f"{base}.{n + 1}", 9600) for n in range(count))


def wanted(it: MetadataServer, name: str, count: int, keys: Keys | None = None) -> Wanted:
    key = ObjectKey("team", name)
    found = keys or pool_keys(it.server().kind, key)
    return Wanted(it.server(), found, f"KVCachePool {key}", members(count, name=name), ttl_s=60, slots=64)


@asynccontextmanager
async def publishing() -> AsyncIterator[Publisher]:
    async with aclosing(Connections()) as connections:
        yield Publisher(connections, SystemClock())


async def published(publisher: Publisher, what: Wanted, user: str = USER) -> Record:
    outcome = await publisher.publish(user, what)
    assert outcome.error is None
    assert outcome.record is not None
    assert outcome.latency_s is not None
    return outcome.record


async def stored(server: Server, keys: Keys, *names: str) -> dict[str, bytes]:
    async with aclosing(open_store(server)) as store:
        found = await store.read([keys.record, *(keys.member(name) for name in names)])
        return {key: value.content for key, value in found.items()}


@KINDS
async def test_life_of_a_cache(kind: str) -> None:
    async with running(kind) as it, publishing() as publisher:
        four = wanted(it, "c", 4)
        first = await published(publisher, four)
        assert first.version == 1
        assert set(await stored(it.server(), four.keys, "c-0", "c-3")) == {
            four.keys.record,
            four.keys.member("c-0"),
            four.keys.member("c-3"),
        }
        assert (await publisher.publish(USER, four)).is_changed is False
        two = await published(publisher, wanted(it, "c", 2))
        assert two.version == 2
        assert set(await stored(it.server(), four.keys, "c-0", "c-3")) == {four.keys.record, four.keys.member("c-0")}
        # Somebody empties the server: the same slots come back, under a later version.
        async with aclosing(open_store(it.server())) as store:
            await store.remove([four.keys.record], [four.keys.members])
        again = await published(publisher, wanted(it, "c", 2))
        assert (again.nodes, again.version) == (two.nodes, 3)
        assert four.keys.member("c-1") in await stored(it.server(), four.keys, "c-1")
        await publisher.retract(wanted(it, "c", 0))
        assert await stored(it.server(), four.keys, "c-0", "c-1", "c-2", "c-3") == {}


@KINDS
async def test_two_controllers_race_and_lose_no_version(kind: str) -> None:
    """Each pass of each controller publishes other members: as many versions as changes that were made."""
    async with running(kind) as it, publishing() as one, publishing() as two:
        seen: list[int] = []

        async def publish_all(publisher: Publisher, base: str) -> None:
            for count in range(12):
                what = replace(wanted(it, "c", 0), members=members(1 + count % 3, base=f"{base}.{count}"))
                outcome = await publisher.publish(USER, what)
                assert outcome.error is None
                if outcome.is_changed:
                    assert outcome.record is not None
                    seen.append(outcome.record.version)

        await asyncio.gather(publish_all(one, "10.1"), publish_all(two, "10.2"))
        keys = wanted(it, "c", 0).keys
        record = decode((await stored(it.server(), keys))[keys.record])
        assert record is not None
        assert sorted(seen) == list(range(1, len(seen) + 1))
        assert record.version == len(seen) >= 12


@KINDS
async def test_pools_and_caches_share_a_server_without_seeing_each_other(kind: str) -> None:
    async with running(kind) as it, publishing() as publisher:
        server = it.server()
        everything = {
            "a": wanted(it, "a", 2),
            "ab": wanted(it, "ab", 3),
            # A KVCache of the same name.
            "cache": replace(
                wanted(it, "a", 1, cache_keys(server.kind, ObjectKey("team", "a"))), owner="KVCache team/a"
            ),
        }
        before = {user: await published(publisher, what, user) for user, what in everything.items()}
        assert {user: (r.version, len(r.nodes)) for user, r in before.items()} == {
            "a": (1, 2),
            "ab": (1, 3),
            "cache": (1, 1),
        }
        async with aclosing(open_store(server)) as store:
            assert await store.swap("/pybrix/team/a", b"a user's", None)
        await publisher.retract(everything["a"])
        for user in ("ab", "cache"):
            assert await published(publisher, everything[user], user) == before[user]
        assert await stored(server, Keys("/pybrix/team/a", "")) == {"/pybrix/team/a": b"a user's"}


@pytest.mark.parametrize("key", [INFINISTORE_KEY, HPKV_KEY])
async def test_a_key_that_two_caches_were_given_stays_with_the_first(key: str) -> None:
    async with running("redis") as it, publishing() as publisher:
        mine, other = (
            replace(
                wanted(it, name, 1, cache_keys("redis", ObjectKey("team", name), key)), owner=f"KVCache team/{name}"
            )
            for name in ("mine", "other")
        )
        record = await published(publisher, mine)
        outcome = await publisher.publish("uid-2", other)
        assert outcome.error is not None
        assert outcome.error.reason == "KeyTaken"
        assert "KVCache team/mine" in str(outcome.error)
        await publisher.retract(other)
        assert await published(publisher, mine) == record
        await publisher.retract(mine)
        assert (await published(publisher, other, "uid-2")).version == 1


async def test_a_key_of_another_type_is_taken() -> None:
    async with running("redis") as it, publishing() as publisher:
        what = wanted(it, "c", 1)
        await it.redis("LPUSH", what.keys.record, "x")
        outcome = await publisher.publish(USER, what)
        assert outcome.error is not None
        assert outcome.error.reason == "KeyTaken"
        assert str(outcome.error).startswith(f"{what.keys.record} holds something")
        await publisher.retract(what)
        assert await it.redis("TYPE", what.keys.record) == b"list"


async def test_what_is_no_record_is_not_overwritten() -> None:
    async with running("redis") as it, publishing() as publisher:
        what = wanted(it, "c", 1)
        async with aclosing(open_store(it.server())) as store:
            await store.swap(what.keys.record, b"precious", None)
        outcome = await publisher.publish(USER, what)
        assert outcome.error is not None
        assert outcome.error.reason == "KeyTaken"
        await publisher.retract(what)
        assert await stored(it.server(), what.keys) == {what.keys.record: b"precious"}


@KINDS
async def test_a_server_that_is_away_loses_nothing(kind: str) -> None:
    async with running(kind) as it, publishing() as publisher:
        before = await published(publisher, wanted(it, "c", 2))
        await it.stop()
        outcome = await publisher.publish(USER, wanted(it, "c", 3))
        assert isinstance(outcome.error, Unreachable)
        assert outcome.latency_s is None
        # People are told what was published last, because that is what engines go on with.
        assert outcome.record == before
        with pytest.raises(StoreError):
            await publisher.retract(wanted(it, "c", 2))
        await it.start()
        assert (await published(publisher, wanted(it, "c", 3))).version == 2


async def test_an_etcd_that_lost_its_quorum_is_named_and_loses_nothing() -> None:
    async with etcd_cluster(3) as cluster, publishing() as publisher:
        server = cluster[0].server(addresses=tuple(member.address for member in cluster))
        two, three = (replace(wanted(cluster[0], "c", count), server=server) for count in (2, 3))
        before = await published(publisher, two)
        for member in cluster[1:]:
            await member.stop()

        async def is_named() -> bool:
            # Until the last one knows that it is alone, it is slow.
            return isinstance((await publisher.publish(USER, three)).error, NoQuorum)

        await until(is_named)
        assert (await publisher.publish(USER, three)).record == before
        await cluster[1].start()

        async def is_back() -> bool:
            return (await publisher.publish(USER, three)).error is None

        await until(is_back)
        record = await published(publisher, three)
        assert record.version == before.version + 1
        assert [node.name for node in record.nodes] == ["c-0", "c-1", "c-2"]
        assert len(await stored(server, three.keys, "c-0", "c-1", "c-2")) == 4


@KINDS
async def test_another_server_gets_the_membership_and_the_old_one_loses_it(kind: str) -> None:
    async with running(kind) as old, running(kind) as new, publishing() as publisher:
        before, after = wanted(old, "c", 2), wanted(new, "c", 2)
        assert before.place != after.place
        first, second = await published(publisher, before), await published(publisher, after)
        assert (second.nodes, second.version) == (first.nodes, first.version + 1)
        await publisher.leave(USER, before, after)
        assert await stored(old.server(), before.keys, "c-0") == {}
        # The same server by another address keeps what it has.
        alias = replace(after, server=new.server(addresses=(f"localhost:{new.port}",)))
        assert await published(publisher, alias) == second
        await publisher.leave(USER, after, alias)
        assert len(await stored(new.server(), after.keys, "c-0")) == 2


async def test_another_database_of_a_redis_gets_the_membership_and_the_old_one_loses_it() -> None:
    async with running("redis") as it, publishing() as publisher:
        before = wanted(it, "c", 1)
        after = replace(before, server=it.server(database=3))
        assert before.place != after.place
        await published(publisher, before)
        await published(publisher, after)
        await publisher.leave(USER, before, after)
        assert await stored(before.server, before.keys, "c-0") == {}
        assert len(await stored(after.server, after.keys, "c-0")) == 2


async def test_a_rotated_password_is_another_connection_and_the_old_one_is_closed() -> None:
    async with running("redis", password="old") as it, publishing() as publisher:
        old = replace(wanted(it, "c", 1), server=it.server(password="old"))
        await published(publisher, old)
        assert (await publisher.publish(USER, replace(old, server=it.server(password="new")))).error is not None
        async with aclosing(open_store(it.server(password="old"))) as store:
            await store._ask(lambda client: client.config_set("requirepass", "new"))  # type: ignore[attr-defined]
        assert (await published(publisher, replace(old, server=it.server(password="new")))).version == 1


def test_a_prefix_that_is_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="everything"):
        pool_keys("etcd", ObjectKey("a", "b"), "/")
    assert pool_keys("etcd", ObjectKey("a", "b"), "/x/").record == "/x/membership"
