"""A steady load on the gateway that looks at every answer: half of the requests are streams."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp
import msgspec


@dataclass(frozen=True, slots=True)
class CutStream:
    """A stream that had its headers and then ended without `[DONE]`; `ended_s` is monotonic."""

    label: str
    ended_s: float


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    succeeded: int = 0
    failed: list[str] = field(default_factory=list)
    cut_streams: list[CutStream] = field(default_factory=list)
    pods: Counter[str] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    @property
    def total(self) -> int:
        return self.succeeded + len(self.failed) + len(self.cut_streams)


class Traffic:
    """Sends `rate_per_s` requests a second, whatever the answers do (open loop)."""

    def __init__(
        self, url: str, model: str, *, rate_per_s: float = 60, max_tokens: int = 20, silence_limit_s: float = 15
    ) -> None:
        self.tally = Tally()
        self._url = f"{url}/v1/chat/completions"
        self._model = model
        self._interval_s = 1 / rate_per_s
        self._max_tokens = max_tokens
        self._timeout = aiohttp.ClientTimeout(total=120, sock_read=silence_limit_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Tally]:
        """Keep the load up for the body of the `async with`, then wait for every answer."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send_all(stop))
            try:
                yield self.tally
            finally:
                stop.set()
                await sender

    async def _send_all(self, stop: asyncio.Event) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            due_s = monotonic()
            for number in itertools.count():
                group.create_task(self._send(session, number))
                due_s += self._interval_s
                try:
                    await asyncio.wait_for(stop.wait(), max(0.0, due_s - monotonic()))
                except TimeoutError:
                    continue
                return

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        is_stream = number % 2 == 1
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"Question {number}: how are you?"}],
            "max_tokens": self._max_tokens,
            "stream": is_stream,
        }
        label = f"#{number} {'stream' if is_stream else 'plain'}"
        started_s = monotonic()
        has_headers = False
        try:
            async with session.post(self._url, json=body) as response:
                has_headers = True
                content = await response.read()
                problem = _problem(response, content, is_stream)
                label += f" pod={response.headers.get('target-pod')} request-id={response.headers.get('request-id')}"
                if problem:
                    self.tally.failed.append(f"{label}: {problem}")
                    return
                self.tally.pods[response.headers.get("target-pod", "")] += 1
                self.tally.strategies[response.headers.get("routing-strategy", "")] += 1
                self.tally.succeeded += 1
        except (TimeoutError, aiohttp.ClientError) as err:
            took_s = monotonic() - started_s
            is_cut = is_stream and has_headers and isinstance(err, aiohttp.ClientPayloadError)
            label += f" after {took_s:.2f} s: {err!r}"
            if is_cut:
                self.tally.cut_streams.append(CutStream(label, monotonic()))
            else:
                self.tally.failed.append(label)
        finally:
            self.tally.slowest_s = max(self.tally.slowest_s, monotonic() - started_s)


def _problem(response: aiohttp.ClientResponse, content: bytes, is_stream: bool) -> str:
    """Return what is wrong with an answer that arrived whole, or nothing."""
    if response.status != 200:
        return f"{response.status} {content[:300]!r}"
    if not response.headers.get("target-pod"):
        return "no target-pod header"
    if is_stream:
        return "" if content.rstrip().endswith(b"data: [DONE]") else f"stream without [DONE]: {content[-200:]!r}"
    try:
        answer = msgspec.json.decode(content)
        return "" if answer["choices"][0]["message"]["content"] else "an empty answer"
    except (msgspec.MsgspecError, KeyError, IndexError, TypeError) as err:
        return f"not a chat completion ({err!r}): {content[:200]!r}"
