"""The leases in a real Redis: the script does what its stand-in in the property tests does, and answers are checked."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import RedisError

from pybrix.api.config import RedisConfiguration
from pybrix.gateway.admission.counter import Ask, Reply
from pybrix.gateway.admission.ratelimit import CounterKey
from pybrix.gateway.admission.redisstore import RedisLeases, connect
from tests.support.leases import LeaseServer
from tests.support.redisserver import RedisServer, running_redis

KEY = CounterKey("tpm", "alice")
NAME = "t:limits:tpm:alice"


def ask(**fields: Any) -> Ask:
    known: dict[str, Any] = {"limit": 100, "charge": 0, "want": 0, "need": 0, "returns": ()}
    return Ask(span_s=60.0, asked_s=0.0, **{**known, **fields})


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with running_redis() as found:
        yield found


@pytest_asyncio.fixture
async def leases(server: RedisServer) -> AsyncIterator[RedisLeases]:
    client = connect(server.config)
    yield RedisLeases(client, "t:")
    await client.aclose()


async def tell(leases: RedisLeases, said: Ask) -> Reply:
    reply = (await leases.tell([(KEY, said)]))[0]
    assert reply is not None
    return reply


async def test_a_lease_is_granted_counted_and_given_back(leases: RedisLeases) -> None:
    first = await tell(leases, ask(charge=10, want=30))
    assert (first.granted, first.used, first.frees_in_s) == (30, 40, 0.0)
    second = await tell(leases, ask(charge=20, want=100))
    assert (second.granted, second.used) == (40, 100)
    third = await tell(leases, ask(want=5, need=1))
    assert (third.granted, third.used) == (0, 100)
    assert 58.0 < third.frees_in_s <= 61.0
    back = await tell(leases, ask(returns=((first.slice, 25),)))
    assert back.used == 75


async def test_what_was_spent_is_charged_above_the_limit_too(leases: RedisLeases) -> None:
    assert (await tell(leases, ask(charge=150, want=10))).used == 150


async def test_a_window_ends_and_its_key_with_it(leases: RedisLeases, server: RedisServer) -> None:
    await tell(leases, ask(charge=1))
    async with server.client() as client:
        assert 60_000 < await client.pttl(NAME) <= 62_000


@pytest.mark.parametrize("seed", range(5))
async def test_the_script_and_its_stand_in_agree(leases: RedisLeases, server: RedisServer, seed: int) -> None:
    chance = random.Random(seed)
    stand_in = LeaseServer()
    slices: list[int] = []
    async with server.client() as client:
        for _ in range(30):
            returns = ((chance.choice(slices), chance.randint(1, 60)),) if slices and chance.random() < 0.5 else ()
            amounts = {name: chance.randint(0, 40) for name in ("charge", "want", "need")}
            said = ask(returns=returns, **amounts)
            reply = await tell(leases, said)
            seconds, micros = await client.time()
            expected = stand_in.hear(said, seconds + micros / 1e6)
            slices.append(reply.slice)
            assert (reply.granted, reply.used) == (expected.granted, expected.used)
            # A slice may have ended between the two.
            assert abs(reply.frees_in_s - expected.frees_in_s) < 2.5


@pytest.mark.parametrize(
    "damage",
    [
        {"x": "1"},
        {"1": "many"},
        {"99999999999999": "5"},
        {"-5": "5"},
        {"1": "5"},
    ],
    ids=["no-slice", "no-amount", "of-the-future", "negative", "long-gone"],
)
async def test_what_others_write_into_the_key_is_removed(
    leases: RedisLeases, server: RedisServer, damage: dict[str, str]
) -> None:
    async with server.client() as client:
        await client.hset(NAME, mapping=damage)
        assert (await tell(leases, ask(charge=3))).used == 3
        assert len(await client.hgetall(NAME)) == 1


async def test_a_key_of_another_type_fails_alone(leases: RedisLeases, server: RedisServer) -> None:
    async with server.client() as client:
        await client.set(NAME, "text")
    other = CounterKey("rpm", "alice")
    replies = await leases.tell([(KEY, ask(charge=1)), (other, ask(charge=1))])
    assert replies[0] is None
    assert replies[1] is not None
    with pytest.raises(RedisError):
        await leases.tell([(KEY, ask(charge=1))])


async def test_a_restarted_redis_is_told_the_script_again(leases: RedisLeases, server: RedisServer) -> None:
    await tell(leases, ask(charge=1))
    async with server.client() as client:
        await client.script_flush()
    with pytest.raises(RedisError):
        await tell(leases, ask(charge=1))
    assert (await tell(leases, ask(charge=1))).used == 2


class Lying:
    """A Redis that answers what it likes."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def script_load(self, script: str) -> str:
        return "sha"

    def pipeline(self, *, transaction: bool) -> Lying:
        return self

    async def __aenter__(self) -> Lying:
        return self

    async def __aexit__(self, *rest: object) -> None:
        pass

    def evalsha(self, *arguments: object) -> None:
        pass

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        return [self.answer]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"OK",
        [],
        [1, 2, 3],
        [1, 2, 3, b"4"],
        [1, 1000, 3, 4],
        [1, -1, 3, 4],
        [-1, 1, 3, 4],
        [1, 1, 2**60, 4],
        [1, 1, 3, -4],
        [1, True, 3, 4],
    ],
)
async def test_an_answer_that_the_script_cannot_have_made_is_none(answer: object) -> None:
    lying: Any = Lying(answer)
    assert await RedisLeases(lying, "").tell([(KEY, ask(want=10))]) == [None]


async def test_a_wait_that_is_too_long_is_cut() -> None:
    lying: Any = Lying([1, 1, 3, 10**12])
    reply = (await RedisLeases(lying, "").tell([(KEY, ask(want=10))]))[0]
    assert reply == Reply(1, 1, 3, 120.0)


def test_the_connection_is_as_configured(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("first\n")
    config = RedisConfiguration(
        address="redis.example:6380", username="u", password_path=str(password), is_tls=True, database=3
    )
    arguments = connect(config).connection_pool.connection_kwargs
    assert (arguments["host"], arguments["port"], arguments["db"]) == ("redis.example", 6380, 3)
    assert arguments["credential_provider"].get_credentials() == ("u", "first")
    password.write_text("second")
    assert arguments["credential_provider"].get_credentials() == ("u", "second")
