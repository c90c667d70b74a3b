"""How busy engines are, for the policies that place adapters by it: read from their metrics pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import aiohttp

from pybrix.controllers.modeladapter.state import PodFacts, PodLoad
from pybrix.engine.page import Average, EnginePage, read_page, series_of

DEADLINE_S = 2.0
LONGEST_PAGE_BYTES = 8 * 1024 * 1024
SHORTEST_SPAN_S = 5.0
"""Two pages nearer to each other than this say little about a rate."""


class PageReader(Protocol):
    """Who reads metrics pages."""

    async def read_page(self, pod: PodFacts, api_key: str) -> EnginePage | None:
        """Return what a pod's page says; None when there is none to be had in time."""
        ...


class HttpPageReader:
    """Reads pages over HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read_page(self, pod: PodFacts, api_key: str) -> EnginePage | None:
        address = pod.addresses[0]
        host = f"[{address}]" if ":" in address else address
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            async with self._session.get(
                f"http://{host}:{pod.metric_port}{series_of(pod.engine).path}",
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=DEADLINE_S),
            ) as response:
                if response.status != 200:
                    return None
                return read_page(await response.content.read(LONGEST_PAGE_BYTES), pod.engine)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class PageAt:
    """A page and when it was read, in seconds since the epoch."""

    page: EnginePage
    at_s: float


def load_of(before: PageAt | None, now: PageAt) -> PodLoad:
    """Return how busy an engine was between two pages, or since it started when they are too near or it restarted.

    The formulas are AIBrix's: the average time of a request from its arrival to its end, and 2 x prompt tokens +
    generated tokens a minute. An engine that had no request yet has a latency of 0.
    """
    page = now.page
    is_same = before is not None and before.page.started_s == page.started_s
    base = before if before is not None and is_same and now.at_s - before.at_s >= SHORTEST_SPAN_S else None
    old = base.page if base is not None else EnginePage()
    since_s = base.at_s if base is not None else page.started_s
    return PodLoad(
        latency_s=_latency_s(old.e2e, page.e2e),
        tokens_per_minute=_tokens_per_minute(old, page, None if since_s is None else now.at_s - since_s),
    )


def _latency_s(old: Average | None, new: Average | None) -> float | None:
    if new is None:
        return None
    total, count = new.total, new.count
    if old is not None and new.count > old.count:
        total, count = new.total - old.total, new.count - old.count
    return total / count if count > 0 else 0.0


def _tokens_per_minute(old: EnginePage, new: EnginePage, span_s: float | None) -> float | None:
    if new.prompt_tokens is None or new.generation_tokens is None or span_s is None or span_s <= 0:
        return None
    prompt = new.prompt_tokens - (old.prompt_tokens or 0.0)
    generated = new.generation_tokens - (old.generation_tokens or 0.0)
    return max(0.0, 2 * prompt + generated) * 60 / span_s
