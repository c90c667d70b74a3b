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
        forget: Callable[[Subscription], None],
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.on_cut: Callable[[], None] | None = None
        """Called once when the subscription is cut off, so that a reader stuck elsewhere can be woken."""
        self._queue: deque[Change] = deque()
        self._limit = limit
        self._forget = forget
        self._wake = asyncio.Event()
        self._is_closed = False
        self._cut: SlowSubscriber | None = None
        # A backlog comes from the bounded history, so it does not count against the limit.
        self._queue.extend(change for change in backlog if self.wants(change))
        self._limit += len(self._queue)

    def wants(self, change: Change) -> bool:
        return (self.resource is None or change.object.resource == self.resource) and (
            self.namespace is None or change.object.key.namespace == self.namespace
        )

    def offer(self, change: Change) -> None:
        """Queue a change; called by the store with what `wants` accepts."""
        if len(self._queue) >= self._limit:
            self._cut = SlowSubscriber(len(self._queue))
            self.close()
            if self.on_cut is not None:
                self.on_cut()
            return
        self._queue.append(change)
        self._wake.set()

    def take(self) -> list[Change]:
        """Return what is queued, without waiting.

        Raises:
            SlowSubscriber: the subscription was cut off.
        """
        if self._cut is not None:
            raise self._cut
        taken = list(self._queue)
        self._queue.clear()
        self._wake.clear()
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
        return self._queue.popleft() if self._queue else None

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
