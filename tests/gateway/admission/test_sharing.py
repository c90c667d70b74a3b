"""Several gateways and one Redis: one limit for all, users and keys seen by all, and nothing fails without it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from pybrix.api.config import GatewayConfiguration, IdentityConfiguration, LimitsConfiguration, RedisConfiguration
from pybrix.base.clock import SystemClock
from pybrix.gateway.admission.counter import lease_limit
from pybrix.gateway.admission.ratelimit import Charge
from pybrix.gateway.admission.service import Admission
from pybrix.gateway.admission.users import User
from pybrix.gateway.framework.refusal import Reason, Refusal
from tests.support.gateway import make_request
from tests.support.redisserver import RedisServer, running_redis
from tests.support.waiting import until, until_now


def is_refused(instance: Instance, user: str) -> bool:
    return not instance.is_admitted(user)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with running_redis() as found:
        yield found


class Instance:
    """One gateway's admission, and what it told Envoy of keys."""

    def __init__(self, admission: Admission, published: list[Mapping[str, str]]) -> None:
        self.admission = admission
        self.published = published

    def ask(self, user: str = "alice", **fields: Any) -> Charge | Refusal | None:
        request = make_request(user=user, **fields)
        return self.admission.gate.admit(request, SystemClock().monotonic_s())

    def is_admitted(self, user: str = "alice", **fields: Any) -> bool:
        return not isinstance(self.ask(user, **fields), Refusal)

    async def knows(self, user: str) -> None:
        async def is_known() -> bool:
            return isinstance(self.admission.find_user(user, SystemClock().monotonic_s()), User)

        await until(is_known)


@asynccontextmanager
async def instance(redis: RedisConfiguration, directory: Path, *, wait: bool = True) -> AsyncIterator[Instance]:
    config = GatewayConfiguration(
        redis=redis,
        limits=LimitsConfiguration(user_cache_s=0.3),
        identity=IdentityConfiguration(is_user_header_trusted=True, is_api_key_required=True),
    )
    published: list[Mapping[str, str]] = []
    admission = Admission(
        config, data_dir=directory, clock=SystemClock(), draw=secrets.token_bytes, publish=published.append
    )
    task = asyncio.ensure_future(admission.run())
    try:
        if wait:
            await asyncio.wait_for(admission.first_answer.wait(), 60)
        yield Instance(admission, published)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await admission.aclose()


async def test_two_gateways_share_one_users_limit_within_the_documented_overshoot(
    server: RedisServer, tmp_path: Path
) -> None:
    limit = 200
    async with instance(server.config, tmp_path / "a") as one, instance(server.config, tmp_path / "b") as two:
        await one.admission.put_user(User("alice", rpm=limit, tpm=10_000_000))
        await two.admission.put_user(User("alice", rpm=limit, tpm=10_000_000))
        admitted, denied = 0, 0
        # Nothing that was spent leaves the window of a minute meanwhile.
        async with asyncio.timeout(50):
            # Denials before Redis has answered are none of the limit: it may take its time.
            while denied < 2 * limit or admitted < limit * 0.8:
                for each in (one, two):
                    if each.is_admitted(prompt_tokens=1, decode_tokens=1):
                        admitted += 1
                    else:
                        denied += 1
                await asyncio.sleep(0.001)
        assert admitted <= limit + 2 * 2 * lease_limit(limit)


async def test_a_burst_in_one_step_is_bounded_too(server: RedisServer, tmp_path: Path) -> None:
    async with instance(server.config, tmp_path / "a") as one, instance(server.config, tmp_path / "b") as two:
        for each in (one, two):
            await each.admission.put_user(User("alice", rpm=100, tpm=10_000_000))
        admitted = sum(each.is_admitted(prompt_tokens=1, decode_tokens=1) for _ in range(500) for each in (one, two))
        assert admitted <= 100 + 2 * 2 * lease_limit(100)


async def test_no_request_waits_for_redis(server: RedisServer, tmp_path: Path) -> None:
    async with instance(server.config, tmp_path) as one:
        await one.admission.put_user(User("alice", rpm=10_000_000, tpm=10**12))
        server.suspend()
        # Whoever asked Redis here, would wait for all of its timeout, a thousand times.
        for _ in range(1000):
            assert one.is_admitted()
        server.resume()


async def test_users_of_aibrix_are_read_in_the_background_and_unknown_ones_refused(
    server: RedisServer, tmp_path: Path
) -> None:
    async with server.client() as client, instance(server.config, tmp_path) as one:
        await client.set("aibrix-users/alice", json.dumps({"name": "alice", "rpm": 2, "tpm": 0}))
        await client.set("aibrix-users/broken", "{")
        assert one.is_admitted(), "who this is, is not known yet"
        await one.knows("alice")
        assert [one.is_admitted() for _ in range(3)] == [True, False, False]

        for stranger in ("mallory", "broken"):
            assert one.is_admitted(stranger)
            await until_now(partial(is_refused, one, stranger))
            said = one.ask(stranger)
            assert isinstance(said, Refusal)
            assert (said.reason, said.status, dict(said.headers())["x-error-user"]) == (
                Reason.USER_UNKNOWN,
                401,
                "true",
            )

        await client.set("aibrix-users/alice", json.dumps({"name": "alice", "rpm": 50}))
        await until_now(one.is_admitted)
        await client.set("aibrix-users/mallory", json.dumps({"name": "mallory"}))
        await until_now(lambda: one.is_admitted("mallory"))


async def test_keys_reach_every_gateway_and_outlive_it_as_hashes(server: RedisServer, tmp_path: Path) -> None:
    async with instance(server.config, tmp_path / "a") as one, instance(server.config, tmp_path / "b") as two:
        await one.admission.put_user(User("alice"))
        key, stored = await one.admission.create_key("alice")
        await until_now(lambda: two.published[-1:] == [{stored.hash: "alice"}])
        kept = tmp_path / "b" / "api-keys.json"
        await until_now(lambda: kept.exists() and stored.hash in kept.read_text())
        for file in tmp_path.rglob("*.json"):
            assert key not in file.read_text()
            assert file.stat().st_mode & 0o077 == 0
        async with server.client() as client:
            assert key.encode() not in b"".join([await client.dump(name) or b"" for name in await client.keys()])
    await server.stop()
    async with instance(server.config, tmp_path / "b", wait=False) as later:
        assert later.published == [{stored.hash: "alice"}]
        assert later.admission.keyring.is_known
    await server.start()
    async with instance(server.config, tmp_path / "new") as fresh:
        assert fresh.published == [{}]


async def test_a_revoked_key_and_those_of_a_deleted_user_are_gone_everywhere(
    server: RedisServer, tmp_path: Path
) -> None:
    async with instance(server.config, tmp_path / "a") as one, instance(server.config, tmp_path / "b") as two:
        for name in ("alice", "bob"):
            await one.admission.put_user(User(name))
        _, first = await one.admission.create_key("alice")
        _, second = await one.admission.create_key("alice")
        _, third = await one.admission.create_key("bob")
        await until_now(lambda: len(two.admission.keyring) == 3)
        assert [key.id for key in await two.admission.revoke_keys(first.id)] == [first.id]
        await until_now(lambda: set(one.published[-1]) == {second.hash, third.hash})
        assert await one.admission.delete_user("alice")
        await until_now(lambda: two.published[-1] == {third.hash: "bob"})
        assert await two.admission.revoke_keys(third.id)
        await until_now(lambda: one.published[-1] == {})


async def test_a_redis_that_has_lost_everything_gets_the_keys_back(server: RedisServer, tmp_path: Path) -> None:
    async with instance(server.config, tmp_path / "a") as one:
        _, stored = await one.admission.create_key("alice")
        await until_now(lambda: one.published[-1] == {stored.hash: "alice"})
        async with server.client() as client:
            await client.flushall()
            await until_now(lambda: len(one.admission.keyring) == 1)

            async def is_back() -> bool:
                return bool(await client.hexists("pybrix:api-keys", stored.hash))

            await until(is_back)
        assert one.published[-1] == {stored.hash: "alice"}


async def test_without_redis_limits_are_of_one_gateway_and_shared_again_when_it_is_back(
    server: RedisServer, tmp_path: Path
) -> None:
    async with instance(server.config, tmp_path) as one:
        await one.admission.put_user(User("alice", rpm=100))
        assert one.is_admitted(prompt_tokens=1, decode_tokens=1)
        assert one.admission.describe()["limits"] == "shared"
        await server.stop()
        await until_now(lambda: bool(one.admission.problem))
        assert one.admission.describe()["limits"] == "per-instance"
        admitted = sum(one.is_admitted(prompt_tokens=1, decode_tokens=1) for _ in range(150))
        assert admitted == 99
        assert one.is_admitted("someone-new")
        await server.start()
        await until_now(lambda: not one.admission.problem)
        assert one.admission.describe() | {"counters": 0} == {
            "limits": "shared",
            "redis": "ok",
            "apiKeys": 0,
            "requestsCharged": 0,
            "counters": 0,
        }

        async def is_told() -> bool:
            async with server.client() as client:
                counts = await client.hvals("pybrix:limits:rpm:alice")
            return sum(map(int, counts)) == 100

        await until(is_told)
        assert not one.is_admitted(prompt_tokens=1, decode_tokens=1)


async def test_a_redis_that_hangs_refuses_writes_or_wants_a_password_fails_nobody(
    server: RedisServer, tmp_path: Path
) -> None:
    async with instance(server.config, tmp_path) as one, server.client() as client:
        await one.admission.put_user(User("alice", rpm=10_000))

        async def breaks_and_heals() -> None:
            async def is_broken() -> bool:
                assert one.is_admitted(prompt_tokens=1, decode_tokens=1)
                return bool(one.admission.problem)

            await until(is_broken)
            assert one.is_admitted(prompt_tokens=1, decode_tokens=1)

        server.suspend()
        await breaks_and_heals()
        server.resume()
        await until_now(lambda: not one.admission.problem)

        # Nobody is there: what it has stays, and it takes no writes.
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        await breaks_and_heals()
        assert "read only" in one.admission.problem
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await until_now(lambda: not one.admission.problem)

        await client.config_set("maxmemory", "1")
        await breaks_and_heals()
        await client.config_set("maxmemory", "0")
        await until_now(lambda: not one.admission.problem)

        await client.config_set("requirepass", "new")
        await client.client_kill_filter(skipme=True, _type="normal")
        await breaks_and_heals()
        assert "auth" in one.admission.problem
        await client.config_set("requirepass", "")
        await until_now(lambda: not one.admission.problem)


async def test_a_password_is_read_from_its_file_again(server: RedisServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("old")
    async with server.client() as client:
        await client.config_set("requirepass", "new")
        config = msgspec.structs.replace(server.config, password_path=str(password))
        async with instance(config, tmp_path, wait=False) as one:
            await until_now(lambda: "password" in one.admission.problem)
            password.write_text("new\n")
            await until_now(lambda: not one.admission.problem)
        await client.config_set("requirepass", "")


async def test_what_is_not_told_yet_is_told_at_the_end(server: RedisServer, tmp_path: Path) -> None:
    async with instance(server.config, tmp_path) as one:
        await one.admission.put_user(User("alice", rpm=100))
        for _ in range(7):
            assert one.is_admitted(prompt_tokens=1, decode_tokens=1)
    async with server.client() as client:
        assert sum(map(int, await client.hvals("pybrix:limits:rpm:alice"))) >= 7
