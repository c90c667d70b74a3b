"""The queue between watches and workers, with the promises of client-go's workqueue.

A key that is queued is not queued twice; a key that is being worked on is handed out again only after `done`, so that
one key is never in two hands; a key added meanwhile is not lost.

    queue.add(key)
    while (key := await queue.get()) is not None:
        try: ...
        finally: queue.done(key)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF_S = 0.005
LAST_BACKOFF_S = 1000.0


class WorkQueue(Generic[K]):
    """A queue of one event loop; every method but `get` returns at once."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._delayed: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_shut_down = False

    def __len__(self) -> int:
        """Return how many keys wait for a worker; those with a delay do not count."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Queue a key now. A delay that it has is over."""
        if self._is_shut_down:
            return
        if (handle := self._delayed.pop(key, None)) is not None:
            handle.cancel()
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.append(key)
            self._wake_one()

    def add_after(self, key: K, delay_s: float) -> None:
        """Queue a key later; of several delays the earliest counts."""
        if self._is_shut_down:
            return
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due_s = loop.time() + delay_s
        if (handle := self._delayed.get(key)) is not None:
            if handle.when() <= due_s:
                return
            handle.cancel()
        self._delayed[key] = loop.call_at(due_s, self.add, key)

    def add_failed(self, key: K, longest_s: float = LAST_BACKOFF_S) -> float:
        """Queue a key after its own backoff, 5 ms doubling to the longest, and return that delay.

        Failures that are waited for no longer do not count: others that follow them would wait for them.
        """
        failures = self._failures.get(key, 0)
        # The exponent is bounded before the power is taken: 2**2000 is no float.
        delay_s = FIRST_BACKOFF_S * 2.0 ** min(failures, 64)
        if delay_s < longest_s:
            self._failures[key] = failures + 1
        delay_s = min(delay_s, longest_s)
        self.add_after(key, delay_s)
        return delay_s

    def failures(self, key: K) -> int:
        """Return how often a key failed since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Start the key's backoff afresh."""
        self._failures.pop(key, None)

    async def get(self) -> K | None:
        """Wait for a key and take it; None once the queue is shut down and empty."""
        while not self._ready:
            if self._is_shut_down:
                return None
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Give a key back; it is handed out again if it was added meanwhile."""
        self._processing.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake_one()

    def shut_down(self) -> None:
        """Take no more keys, drop the waiting ones, and let workers finish what they hold."""
        self._is_shut_down = True
        for handle in self._delayed.values():
            handle.cancel()
        self._delayed.clear()
        self._ready.clear()
        self._dirty.clear()
        while self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
