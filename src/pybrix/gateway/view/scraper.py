"""Ask engines for their metrics: one task an engine, so that a slow one delays no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import structlog

from pybrix.api.identity import Uid
from pybrix.base.clock import Clock
from pybrix.engine.page import read_page, series_of
from pybrix.gateway.framework.plugins import Chance
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.view.enginerates import History, derive
from pybrix.gateway.view.facts import PodFacts
from pybrix.gateway.view.pacing import next_delay_s
from pybrix.gateway.view.snapshot import ClusterView

TIMEOUT_S = 2.0
MAX_PAGE_BYTES = 8 * 1024 * 1024
MAX_AT_ONCE = 128
HTTP_COST_S = 0.0005
"""CPU time of a request and its answer, besides reading the page; measured with aiohttp."""
_COST_WEIGHT = 0.05

_log = structlog.get_logger()


class ScrapeError(Exception):
    """An engine did not answer with a page of metrics. The text says why."""


class Fetch(Protocol):
    """Fetches pages."""

    async def __call__(self, url: str) -> bytes:
        """Return the page.

        Raises:
            ScrapeError: there is none.
        """
        ...


class HttpFetch:
    """Fetches over HTTP; to be closed."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=1),
            # Pages compress well, and taking them apart again costs more than they take on a local network.
            headers={"accept-encoding": "identity", "accept": "text/plain"},
            auto_decompress=False,
        )

    async def __call__(self, url: str) -> bytes:
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise ScrapeError(f"status {answer.status}")
                page = b""
                async for part in answer.content.iter_any():
                    page += part
                    if len(page) > MAX_PAGE_BYTES:
                        raise ScrapeError(f"the page is larger than {MAX_PAGE_BYTES} bytes")
                return page
        except TimeoutError as err:
            raise ScrapeError("no answer in time") from err
        except aiohttp.ClientError as err:
            raise ScrapeError(str(err) or type(err).__name__) from err

    async def aclose(self) -> None:
        await self._session.close()


@dataclass(frozen=True, slots=True)
class Target:
    """An engine to ask. `name` is for people."""

    id: EndpointId
    url: str
    engine: str
    name: str


@dataclass(slots=True)
class ScrapeCounts:
    """Totals since the start."""

    succeeded: int = 0
    failed: int = 0
    cost_s: float = field(default=0.001)
    """CPU time of reading one page, smoothed."""


class Scraper:
    """Keeps the table of metrics up to date for every ready pod of the view.

    Args:
        fetch: fetches pages.
        table: where metrics go.
        loads: tells which engines have requests in flight.
        shortest_s: interval of an engine under load.
        counts: totals to count in.
        learn: called with every new metrics.
    """

    def __init__(
        self,
        fetch: Fetch,
        table: MetricsTable,
        loads: LoadTable,
        *,
        clock: Clock,
        chance: Chance,
        shortest_s: float,
        counts: ScrapeCounts,
        learn: Callable[[EndpointId, EngineMetrics], None],
    ) -> None:
        self._fetch = fetch
        self._table = table
        self._loads = loads
        self._clock = clock
        self._chance = chance
        self._shortest_s = shortest_s
        self._learn = learn
        self._targets: dict[Uid, Target] = {}
        self._changed: set[Uid] = set()
        self._tasks: dict[Uid, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self.counts = counts

    def follow(self, before: ClusterView, view: ClusterView) -> None:
        """Take in a change of the view: new pods are asked from now on, those that left no more."""
        if view.pods is before.pods:
            return
        for uid in before.pods.keys() - view.pods.keys():
            self._drop(uid)
        for uid, pod in view.pods.items():
            if before.pods.get(uid) is not pod:
                self._note(pod)
        if self._changed:
            self._wake.set()

    def _note(self, pod: PodFacts) -> None:
        if pod.absent_because:
            self._drop(pod.uid)
            return
        target = target_of(pod)
        if self._targets.get(pod.uid) != target:
            self._targets[pod.uid] = target
            self._changed.add(pod.uid)

    def _drop(self, uid: Uid) -> None:
        if self._targets.pop(uid, None) is not None:
            self._changed.add(uid)

    def __len__(self) -> int:
        return len(self._targets)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                changed, self._changed = self._changed, set()
                for uid in changed:
                    if (running := self._tasks.pop(uid, None)) is not None:
                        running.cancel()
                    if (target := self._targets.get(uid)) is not None:
                        self._tasks[uid] = tasks.create_task(self._watch(target), name=f"metrics-{target.name}")

    async def _watch(self, target: Target) -> None:
        """Ask one engine again and again."""
        history: History | None = None
        idle_rounds = silent_rounds = 0
        # Pods that come together are not asked together.
        await asyncio.sleep(self._shortest_s * self._chance.random() / 4)
        try:
            while True:
                found = await self._scrape(target, history, is_known_silent=silent_rounds > 0)
                if found is None:
                    silent_rounds += 1
                else:
                    metrics, history = found
                    silent_rounds = 0
                    idle_rounds = 0 if self._is_loaded(target.id, metrics) else idle_rounds + 1
                delay_s = next_delay_s(
                    shortest_s=self._shortest_s,
                    idle_rounds=idle_rounds,
                    silent_rounds=silent_rounds,
                    engines=len(self._targets),
                    cost_s=self.counts.cost_s,
                    draw=self._chance.random(),
                )
                await asyncio.sleep(delay_s)
        finally:
            self._table.drop(target.id)

    def _is_loaded(self, engine: EndpointId, metrics: EngineMetrics) -> bool:
        return bool(self._loads.of(engine).requests or metrics.running or metrics.waiting)

    async def _scrape(
        self, target: Target, history: History | None, *, is_known_silent: bool
    ) -> tuple[EngineMetrics, History] | None:
        """Ask once; None when there is no answer, which is said once."""
        try:
            async with self._turns:
                page = await self._fetch(target.url)
            began_s = self._clock.monotonic_s()
            metrics, history = derive(history, read_page(page, target.engine), began_s)
            self._table.put(target.id, metrics)
            self._learn(target.id, metrics)
            spent_s = self._clock.monotonic_s() - began_s + HTTP_COST_S
            self.counts.cost_s += _COST_WEIGHT * (spent_s - self.counts.cost_s)
        except ScrapeError as err:
            self.counts.failed += 1
            if not is_known_silent:
                _log.info("engine metrics not read", engine=target.name, url=target.url, why=str(err))
            return None
        except Exception:  # noqa: BLE001 - the loop of a worker
            self.counts.failed += 1
            _log.exception("engine metrics not read", engine=target.name, url=target.url)
            return None
        self.counts.succeeded += 1
        if is_known_silent:
            _log.info("engine metrics read again", engine=target.name)
        return metrics, history


def target_of(pod: PodFacts) -> Target:
    """Return how to ask a pod's engine."""
    port = pod.metric_port or pod.port
    address = f"[{pod.address}]" if ":" in pod.address else pod.address
    url = f"http://{address}:{port}{series_of(pod.engine).path}"
    return Target(EndpointId(pod.uid, pod.port), url, pod.engine, f"{pod.namespace}/{pod.name}")
