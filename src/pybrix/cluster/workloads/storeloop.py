"""A control loop on the cluster's own store, for work that spans all kinds, known here or not.

The store and its `Objects` are synchronous on one event loop. So what a pass reads is exact, and nothing happens
between its reading and its writing; there is no cache that lags and there are no conflicts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import structlog

from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.errors import SlowSubscriber
from pybrix.cluster.store.history import Change
from pybrix.cluster.store.store import Store
from pybrix.cluster.store.subscription import Subscription
from pybrix.runtime.workqueue import WorkQueue

K = TypeVar("K", bound=Hashable)

_log = structlog.get_logger()


class Objects(Protocol):
    """Writes with the API server's admission: finalizers, graceful deletion, generations.

    Raises `kube.errors.StatusError`, as a request over HTTP does.
    """

    def delete(
        self, resource: str, key: ObjectKey, *, uid: Uid | None = None, propagation: str = "Background"
    ) -> None: ...

    def patch(
        self, resource: str, key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Mapping[str, Any]: ...

    def update(self, resource: str, data: Mapping[str, Any], *, subresource: str = "") -> Mapping[str, Any]: ...


class StoreWorker(Protocol[K]):
    """What a loop does: all three are called with the store as it is, and return at once."""

    def start(self) -> Iterable[K]:
        """Take in the whole store anew; return the keys to work on."""
        ...

    def observe(self, change: Change) -> Iterable[K]:
        """Take in one change; return the keys that it touches."""
        ...

    def work(self, key: K) -> float | None:
        """Do what is to be done for a key; return after how many seconds to do so again (None: when it changes)."""
        ...


class StoreLoop(Generic[K]):
    """Run a worker over the changes of a resource (None: of all), one key at a time."""

    def __init__(self, name: str, store: Store, worker: StoreWorker[K], *, resource: str | None = None) -> None:
        self.name = name
        self._store = store
        self._worker = worker
        self._resource = resource
        self._queue: WorkQueue[K] = WorkQueue()
        self._changes: Subscription | None = None
        self._log = _log.bind(controller=name)

    async def run(self) -> None:
        """Work until cancelled, or until the store is closed."""
        self._restart()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._work())
        finally:
            self._queue.shut_down()
            if self._changes is not None:
                self._changes.close()

    def _restart(self) -> None:
        # Without an await in between, no change falls between the subscription and the reading.
        self._changes = self._store.subscribe(self._resource)
        for key in self._worker.start():
            self._queue.add(key)

    def _catch_up(self) -> None:
        assert self._changes is not None
        try:
            for change in self._changes.take():
                for key in self._worker.observe(change):
                    self._queue.add(key)
        except SlowSubscriber as error:
            self._log.warning("fell behind the store, starting over", error=str(error))
            self._restart()

    async def _follow(self) -> None:
        while self._changes is not None:
            await self._changes.wait()
            self._catch_up()
            if self._changes.is_closed:
                self._queue.shut_down()
                return

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            self._catch_up()
            try:
                again_s = self._worker.work(key)
            except Exception:  # noqa: BLE001
                delay_s = self._queue.add_failed(key)
                self._log.exception("pass failed", key=str(key), failures=self._queue.failures(key), delay_s=delay_s)
            else:
                self._queue.forget(key)
                if again_s is not None:
                    self._queue.add_after(key, again_s)
            finally:
                self._queue.done(key)
            # One pass at a time, so that a large deletion does not hold up requests.
            await asyncio.sleep(0)
