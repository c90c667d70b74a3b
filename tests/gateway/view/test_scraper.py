"""Engines are asked each in its own time, in virtual time and over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.framework.signals import STALE_AFTER_S
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.view.facts import PodFacts
from pybrix.gateway.view.pacing import IDLE_LIMIT_S, JITTER, MAX_SHARE, SILENT_LIMIT_S, next_delay_s
from pybrix.gateway.view.scraper import MAX_PAGE_BYTES, HttpFetch, ScrapeCounts, ScrapeError, Scraper, target_of
from pybrix.gateway.view.snapshot import EMPTY, apply, build_view
from tests.support.clocks import LoopClock
from tests.support.gateway import facts


class Engines:
    """Pages by URL; an URL in `silent` never answers, one in `broken` refuses."""

    def __init__(self) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.running: dict[str, float] = defaultdict(float)
        self.silent: set[str] = set()
        self.broken: set[str] = set()

    async def __call__(self, url: str) -> bytes:
        self.asked[url].append(asyncio.get_running_loop().time())
        if url in self.silent:
            await asyncio.sleep(2.0)
            raise ScrapeError("no answer in time")
        if url in self.broken:
            raise ScrapeError("connection refused")
        return f'vllm:num_requests_running{{model_name="m"}} {self.running[url]}\n'.encode()


class World:
    def __init__(self) -> None:
        self.engines, self.table, self.loads = Engines(), MetricsTable(), LoadTable()
        self.counts = ScrapeCounts()
        self.learnt: list[EndpointId] = []
        self.scraper = Scraper(
            self.engines,
            self.table,
            self.loads,
            clock=LoopClock(),
            chance=random.Random(1),
            shortest_s=1.0,
            counts=self.counts,
            learn=lambda engine, metrics: self.learnt.append(engine),
        )
        self.view = EMPTY

    def show(self, *pods: PodFacts) -> None:
        after = apply(self.view, dict.fromkeys(self.view.pods) | {pod.uid: pod for pod in pods})
        before, self.view = self.view, after
        self.scraper.follow(before, after)

    def asked(self, pod: PodFacts) -> list[float]:
        return self.engines.asked[target_of(pod).url]


@asynccontextmanager
async def scraping() -> AsyncIterator[World]:
    world = World()
    task = asyncio.ensure_future(world.scraper.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


A, B = facts("a", ip="127.64.0.1"), facts("b", ip="127.64.0.2")


@pytest.mark.looptime
async def test_a_loaded_engine_is_asked_often_and_an_idle_one_rarely() -> None:
    async with scraping() as world:
        world.engines.running[target_of(A).url] = 3.0
        world.show(A, B)
        await asyncio.sleep(120)
        loaded, idle = world.asked(A), world.asked(B)
        assert 90 <= len(loaded) <= 150
        assert 8 <= len(idle) <= 20
        assert max(b - a for a, b in itertools.pairwise(idle)) <= IDLE_LIMIT_S * (1 + JITTER) + 0.01
        found = world.table.of(A.endpoint.id)
        assert found is not None
        assert (found.running, found.busy_ratio) == (3.0, 1.0)
        world.loads.add(B.endpoint.id)
        await asyncio.sleep(IDLE_LIMIT_S * 1.3)
        before = len(idle)
        await asyncio.sleep(20)
        assert len(world.asked(B)) - before >= 14, "requests in flight make it a loaded one"


@pytest.mark.looptime
async def test_a_slow_engine_delays_no_other_and_an_idle_one_is_never_stale() -> None:
    slow = [facts(f"slow{n}", uid=f"s{n}", ip=f"127.65.0.{n}") for n in range(1, 60)]
    async with scraping() as world:
        world.engines.silent = {target_of(pod).url for pod in slow}
        world.show(A, *slow)
        await asyncio.sleep(1)
        for _ in range(60):
            await asyncio.sleep(1)
            world.table.expire(asyncio.get_running_loop().time())
            found = world.table.of(A.endpoint.id)
            assert found is not None
            assert asyncio.get_running_loop().time() - found.observed_at_s < STALE_AFTER_S / 2
        assert world.table.of(slow[0].endpoint.id) is None
        assert world.counts.failed > 59
        assert len(world.asked(slow[0])) < 10, "a silent engine is asked ever less often"


@pytest.mark.looptime
async def test_an_engine_that_comes_back_is_read_again() -> None:
    async with scraping() as world:
        world.engines.broken = {target_of(A).url}
        world.show(A)
        await asyncio.sleep(5)
        assert len(world.table) == 0
        world.engines.broken.clear()
        await asyncio.sleep(SILENT_LIMIT_S)
        assert world.table.of(A.endpoint.id) is not None


@pytest.mark.looptime
async def test_pods_that_leave_or_turn_not_ready_are_asked_no_more() -> None:
    async with scraping() as world:
        world.show(A, B)
        await asyncio.sleep(3)
        assert len(world.table) == 2
        world.show(facts("a", ip="127.64.0.1", ready=False))
        await asyncio.sleep(0.1)
        asked = len(world.asked(A)), len(world.asked(B))
        assert (len(world.table), len(world.scraper)) == (0, 0)
        await asyncio.sleep(60)
        assert (len(world.asked(A)), len(world.asked(B))) == asked
        world.show(facts("a", ip="127.64.0.9"))
        await asyncio.sleep(3)
        assert world.engines.asked["http://127.64.0.9:8000/metrics"], "its new address is asked"
        assert world.learnt[-1] == A.endpoint.id


def test_where_metrics_are_is_said_by_labels() -> None:
    pod = PodFacts(A.uid, "ns", "a", "m", 9000, "fd00::1", engine="trtllm", metric_port=9100)
    target = target_of(pod)
    assert (target.url, target.name) == ("http://[fd00::1]:9100/prometheus/metrics", "ns/a")
    assert target.id == (A.uid, 9000)
    assert len(build_view([pod]).pods) == 1


@given(
    st.floats(0.1, 5),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(1, 5000),
    st.floats(0, 0.01),
    st.floats(0, 1),
)
def test_a_delay_is_bounded_and_all_scrapes_stay_within_their_share(
    shortest_s: float, idle: int, silent: int, engines: int, cost_s: float, draw: float
) -> None:
    delay_s = next_delay_s(
        shortest_s=shortest_s, idle_rounds=idle, silent_rounds=silent, engines=engines, cost_s=cost_s, draw=draw
    )
    assert delay_s >= shortest_s * (1 - JITTER) * 0.999
    assert engines * cost_s / delay_s <= MAX_SHARE / (1 - JITTER) * 1.001
    assert delay_s <= max(SILENT_LIMIT_S, engines * cost_s / MAX_SHARE) * (1 + JITTER) * 1.001


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.01)
    try:
        yield str(server.make_url("/metrics"))
    finally:
        await server.close()


async def ask(url: str, timeout_s: float = 5.0) -> bytes:
    fetch = HttpFetch(timeout_s)
    try:
        return await fetch(url)
    finally:
        await fetch.aclose()


async def test_a_page_comes_over_http() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=b"x 1\n" * 100_000)

    async with serving(page) as url:
        assert await ask(url) == b"x 1\n" * 100_000


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(lambda: web.Response(status=404), "status 404", id="there is none"),
        pytest.param(lambda: web.Response(status=302, headers={"location": "http://10.0.0.1/"}), "302", id="elsewhere"),
        pytest.param(lambda: web.Response(body=b"x" * (MAX_PAGE_BYTES + 1)), "larger", id="it does not end"),
    ],
)
async def test_an_answer_that_is_no_page(answer: Callable[[], web.Response], why: str) -> None:
    async def reply(request: web.Request) -> web.Response:
        return answer()

    async with serving(reply) as url:
        with pytest.raises(ScrapeError, match=why):
            await ask(url)


async def test_no_answer_in_time_and_nobody_there() -> None:
    hang = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response()

    async with serving(wait) as url:
        with pytest.raises(ScrapeError, match="in time"):
            await ask(url, timeout_s=0.05)
        hang.set()
    with pytest.raises(ScrapeError):
        await ask(url)
