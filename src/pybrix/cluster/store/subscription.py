"""One reader of the stream of changes: a bounded queue that is cut off when its reader does not keep up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from pybrix.cluster.errors import SlowSubscriber
from pybrix.cluster.store.history import Change


class Subscription:
    """Changes of one resource (or all), in order. Iterate it, or call `next` with a timeout around it."""

    def __init__(
        self,
        resource: str | None,
        namespace: str | None,
        backlog: Iterable[Change],
        limit: int,
        limit_bytes: int,
        forget: Callable[[Subscription], None],
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.on_cut: Callable[[], None] | None = None
        """Called once when the subscription is cut off, so that a reader stuck elsewhere can be woken."""
        self._queue: deque[Change] = deque()
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._forget = forget
        self._wake = asyncio.Event()
        self._is_closed = False
        self._cut: SlowSubscriber | None = None
        for change in backlog:
            if self.wants(change):
                self._push(change)
        # The backlog is as bounded as the history it comes from, so it does not count against the limits.
        self._limit += len(self._queue)
        self._limit_bytes += self._size_bytes

    def wants(self, change: Change) -> bool:
        return (self.resource is None or change.object.resource == self.resource) and (
            self.namespace is None or change.object.key.namespace == self.namespace
        )

    def offer(self, change: Change) -> None:
        """Queue a change; called by the store with what `wants` accepts."""
        if len(self._queue) >= self._limit or self._size_bytes >= self._limit_bytes:
            self._cut = SlowSubscriber(len(self._queue))
            self.close()
            if self.on_cut is not None:
                self.on_cut()
            return
        self._push(change)
        self._wake.set()

    def _push(self, change: Change) -> None:
        self._queue.append(change)
        self._size_bytes += len(change.object.raw)

    def _pop(self) -> Change:
        change = self._queue.popleft()
        self._size_bytes -= len(change.object.raw)
        return change

    def take(self, limit_bytes: int | None = None) -> list[Change]:
        """Return what is queued, without waiting; with `limit_bytes`, no more than what passes so many bytes.

        Raises:
            SlowSubscriber: the subscription was cut off.
        """
        if self._cut is not None:
            raise self._cut
        taken: list[Change] = []
        size_bytes = 0
        while self._queue and (limit_bytes is None or size_bytes < limit_bytes):
            taken.append(self._pop())
            size_bytes += len(taken[-1].object.raw)
        return taken

    async def wait(self) -> None:
        """Return when something is queued, or the subscription ended."""
        if not self._queue and not self._is_closed:
            self._wake.clear()
            await self._wake.wait()

    async def next(self) -> Change | None:
        """Return the next change; None once the subscription is closed.

        Raises:
            SlowSubscriber: the subscription was cut off.
        """
        await self.wait()
        if self._cut is not None:
            raise self._cut
        return self._pop() if self._queue else None

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """End the stream; idempotent. Changes that were queued are dropped."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.clear()
            self._forget(self)
            self._wake.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Change:
        change = await self.next()
        if change is None:
            raise StopAsyncIteration
        return change
