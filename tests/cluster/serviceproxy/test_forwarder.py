"""Connections through the forwarder, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pybrix.base.ports import claim_port
from pybrix.cluster.serviceproxy.forwarder import Forwarder
from pybrix.cluster.serviceproxy.process import ForwarderProcess
from pybrix.cluster.serviceproxy.table import Address, Route, parse_answer, parse_routes, print_answer, print_routes
from tests.support.waiting import until_now

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free(ip: str = "127.0.0.1") -> Address:
    return Address(ip, claim_port(ip, 0, ""))


@asynccontextmanager
async def serving(handler: Handler, ip: str = "127.0.0.1") -> AsyncIterator[Address]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, ip, 0)
    try:
        yield Address(ip, server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()


def saying(text: str) -> Handler:
    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode())

    return say


@asynccontextmanager
async def forwarding(*backends: Address, affinity_s: int = 0) -> AsyncIterator[Address]:
    forwarder, address = Forwarder(), free()
    assert await forwarder.apply({address: Route(backends, affinity_s)}) == {}
    try:
        yield address
    finally:
        forwarder.close()


async def ask(address: Address, sent: bytes = b"") -> bytes:
    """Send, say that nothing more comes, and read to the end."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(sent)
    writer.write_eof()
    answer, _ = await asyncio.gather(reader.read(), writer.drain())
    writer.close()
    return answer


async def test_every_byte_arrives_in_both_directions_and_an_end_ends_one_direction_alone() -> None:
    content = os.urandom(3_000_000)
    async with serving(echo) as backend, forwarding(backend) as address:
        answers = await asyncio.gather(*(ask(address, content[i:]) for i in range(5)))
    assert [content[i:] == answer for i, answer in enumerate(answers)] == [True] * 5


async def test_a_backend_that_is_gone_is_passed_over() -> None:
    async with serving(saying("here")) as backend, forwarding(free(), backend, free()) as address:
        assert [await ask(address) for _ in range(5)] == [b"here"] * 5


async def test_nobody_there_is_a_reset() -> None:
    async with forwarding(free()) as address:
        with pytest.raises(ConnectionResetError):
            await ask(address, b"x")


async def test_a_backend_that_dies_is_a_reset_for_its_client() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with serving(die) as backend, forwarding(backend) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x")
        # An end or a reset, as with a real connection: it depends on what was read.
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_connections_spread_unless_a_client_is_to_stay_where_it_was() -> None:
    async with serving(saying("a")) as a, serving(saying("b")) as b:
        async with forwarding(a, b) as address:
            spread = Counter([await ask(address) for _ in range(60)])
        async with forwarding(a, b, affinity_s=60) as address:
            stuck = Counter([await ask(address) for _ in range(20)])
    assert min(spread[b"a"], spread[b"b"]) > 5
    assert len(stuck) == 1


async def test_a_slow_reader_slows_the_sender_down() -> None:
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(2000):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(flood) as backend, forwarding(backend) as address:
        reader, writer = await asyncio.open_connection(*address, limit=1024)
        await reader.readexactly(1)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        # What the kernel and two transports hold, not all 131 MB.
        assert sent < 60_000_000
        writer.close()


async def test_a_route_that_goes_refuses_new_connections_and_keeps_those_that_are_there() -> None:
    forwarder, address = Forwarder(), free()
    async with serving(echo) as backend:
        await forwarder.apply({address: Route((backend,))})
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        await forwarder.apply({})
        with pytest.raises(ConnectionRefusedError):
            await ask(address)
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        writer.close()


async def test_an_address_that_is_taken_is_told_and_the_others_are_served() -> None:
    forwarder, good = Forwarder(), free()
    async with serving(echo) as taken:
        failures = await forwarder.apply({taken: Route((taken,)), good: Route((taken,))})
        assert list(failures) == [taken]
        assert failures[taken] == "Address already in use"
        assert await ask(good, b"x") == b"x"
    forwarder.close()


def test_tables_and_answers_are_read_as_they_were_written() -> None:
    routes = {Address("127.0.0.1", 1): Route((Address("127.0.0.2", 2), Address("127.0.0.3", 3)), 5)}
    assert parse_routes(print_routes(7, routes)) == (7, routes)
    assert parse_answer(print_answer(8, {Address("127.0.0.1", 1): "taken"})) == (8, {Address("127.0.0.1", 1): "taken"})


async def test_the_process_serves_and_another_takes_its_place_when_it_is_killed() -> None:
    process, address, starts = ForwarderProcess(), free(), []
    content = os.urandom(3_000_000)
    process.started = lambda: starts.append(process.pid)
    running = asyncio.create_task(process.run())
    try:
        async with serving(echo) as backend:
            for count in (1, 2):
                await until_now(lambda count=count: len(starts) == count)  # type: ignore[misc]
                assert await process.apply({address: Route((backend,))}) == {}
                assert await ask(address, content) == content
                if count == 1:
                    assert process.pid is not None
                    os.kill(process.pid, 9)
    finally:
        running.cancel()
        await asyncio.wait([running])
    with pytest.raises(ConnectionRefusedError):
        await ask(address)
