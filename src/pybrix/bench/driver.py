"""Sends a steady mixed load and looks at every answer, whatever the answers do to it (open loop)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from pybrix.base.clock import Clock, SystemClock, format_rfc3339_micro
from pybrix.bench.report import Cause, Failure, Tally, Times
from pybrix.bench.traffic import Mix, Request
from pybrix.bench.verification import Expected, StreamCheck, check_whole, refusal

_ERROR_BODY_BYTES = 4096
# Of each kind; the times of the first requests tell the same as those of all.
_MAX_TIMES = 100_000

Expect = Callable[[Request], Expected | None]
"""Gives the one right answer to a request; None when only its shape is known."""


def expect_any(_: Request) -> Expected | None:
    """Expect an answer of the right shape."""
    return None


@dataclass(slots=True)
class _Sending:
    """One request on its way."""

    request: Request
    sent_at: str
    sent_s: float
    first_s: float | None = None
    request_id: str = ""
    pod: str = ""
    strategy: str = ""
    received_bytes: int = 0
    check: StreamCheck | None = field(default=None)


class _Failed(Exception):
    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail


class Driver:
    """A steady load on a gateway.

    Args:
        url: base URL of the gateway, without `/v1`.
        mix: what is sent.
        rate_per_s: requests a second.
        expect: what the right answers are.
        strategy: the routing strategy that requests name; none.
        silence_limit_s: after so long without a byte a request has failed.
    """

    def __init__(
        self,
        url: str,
        mix: Mix,
        *,
        rate_per_s: float,
        expect: Expect = expect_any,
        api_key: str = "",
        strategy: str = "",
        silence_limit_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self.tally = Tally()
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/v1/chat/completions"
        self._mix = mix
        self._interval_s = 1 / rate_per_s
        self._expect = expect
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        if strategy:
            self._headers["routing-strategy"] = strategy
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence_limit_s, sock_read=silence_limit_s)
        self._clock = clock or SystemClock()

    async def run(self, stop: asyncio.Event, duration_s: float = 0.0) -> Tally:
        """Send until `stop` is set or `duration_s` (0: without end) is over, then wait for every answer."""
        began_s = self._clock.monotonic_s()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers) as session,
            asyncio.TaskGroup() as group,
        ):
            due_s = began_s
            while not stop.is_set() and not (duration_s and due_s - began_s >= duration_s):
                now_s = self._clock.monotonic_s()
                self.tally.latest_s = max(self.tally.latest_s, now_s - due_s)
                group.create_task(self._send(session, self._mix.request(self.tally.sent)))
                self.tally.sent += 1
                due_s += self._interval_s
                try:
                    await asyncio.wait_for(stop.wait(), max(0.0, due_s - self._clock.monotonic_s()))
                except TimeoutError:
                    continue
            self.tally.elapsed_s = self._clock.monotonic_s() - began_s
        return self.tally

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Tally]:
        """Keep the load up for the body of the `async with`, then wait for every answer."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run(stop))
            try:
                yield self.tally
            finally:
                stop.set()

    async def _send(self, session: aiohttp.ClientSession, request: Request) -> None:
        sending = _Sending(request, format_rfc3339_micro(self._clock.now()), self._clock.monotonic_s())
        try:
            if request.cancel_after_s is None:
                await self._ask(session, sending)
            else:
                await self._abandon(session, sending, request.cancel_after_s)
        except _Failed as failed:
            self._fail(sending, failed.cause, failed.detail)
        except TimeoutError as err:
            # aiohttp's own timeouts are among them.
            self._fail(sending, Cause.SILENT, repr(err))
        except (aiohttp.ClientError, OSError) as err:
            self._fail(sending, Cause.CUT if sending.first_s is not None else Cause.CONNECTION, repr(err))
        else:
            self._succeed(sending)

    async def _abandon(self, session: aiohttp.ClientSession, sending: _Sending, after_s: float) -> None:
        try:
            async with asyncio.timeout(after_s) as limit:
                await self._ask(session, sending)
        except TimeoutError:
            if not limit.expired():
                raise
        if sending.check is not None and (problem := sending.check.leave()):
            raise _Failed(Cause.WRONG, problem)

    async def _ask(self, session: aiohttp.ClientSession, sending: _Sending) -> None:
        request = sending.request
        async with session.post(self._url, json=request.body) as response:
            headers = response.headers
            sending.request_id = headers.get("request-id") or headers.get("x-request-id") or ""
            sending.pod = headers.get("target-pod", "")
            sending.strategy = headers.get("routing-strategy", "")
            if response.status != 200:
                body = await response.content.read(_ERROR_BODY_BYTES)
                raise _Failed(Cause.REFUSED, refusal(response.status, body))
            if request.is_streamed:
                await self._read_stream(response, sending)
                return
            sending.first_s = self._clock.monotonic_s()
            body = await response.read()
            sending.received_bytes = len(body)
            if problem := check_whole(body, request, self._expect(request)):
                raise _Failed(Cause.WRONG, problem)

    async def _read_stream(self, response: aiohttp.ClientResponse, sending: _Sending) -> None:
        check = sending.check = StreamCheck(sending.request, self._expect(sending.request))
        leave_after = sending.request.cancel_after_events
        async for data in response.content.iter_any():
            if sending.first_s is None:
                sending.first_s = self._clock.monotonic_s()
            sending.received_bytes += len(data)
            check.feed(data)
            if leave_after is not None and check.events >= leave_after:
                # Not read to its end: the connection goes.
                response.close()
                if problem := check.leave():
                    raise _Failed(Cause.WRONG, problem)
                return
        if not check.is_done and not check.problem:
            raise _Failed(Cause.CUT, check.finish())
        if problem := check.finish():
            raise _Failed(Cause.WRONG, problem)

    def _succeed(self, sending: _Sending) -> None:
        tally, kind, now_s = self.tally, sending.request.kind, self._clock.monotonic_s()
        tally.succeeded += 1
        tally.kinds[kind] += 1
        tally.received_bytes += sending.received_bytes
        if sending.pod:
            tally.pods[sending.pod] += 1
        if sending.strategy:
            tally.strategies[sending.strategy] += 1
        times = tally.times.setdefault(kind, Times())
        if sending.first_s is not None and len(times.first_s) < _MAX_TIMES:
            times.first_s.append(sending.first_s - sending.sent_s)
            times.whole_s.append(now_s - sending.sent_s)
        tally.slowest_s = max(tally.slowest_s, now_s - sending.sent_s)

    def _fail(self, sending: _Sending, cause: Cause, detail: str) -> None:
        now_s = self._clock.monotonic_s()
        self.tally.failures.append(
            Failure(
                sending.request.number,
                sending.request.kind,
                cause,
                detail,
                sending.sent_at,
                now_s - sending.sent_s,
                now_s,
                sending.request_id,
                sending.pod,
            )
        )
