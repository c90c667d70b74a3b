"""A controller: changes of watched objects become keys, and each key is reconciled until its world is as planned.

    async def reconcile(key: ObjectKey) -> Plan | Result | None: ...     # observe, then a pure plan

    Controller("replicaset", reconcile, sources=[For(sets), Owns(pods, ReplicaSet), Watches(nodes, sets_of_node)])

A returned `Plan` is applied by the runtime. What a reconciler raises says when to look again: see `runtime.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.kube.errors import AlreadyExists, Conflict, KubeError, TooManyRequests
from pybrix.kube.informer import Informer
from pybrix.kube.interface import EventType
from pybrix.runtime.actions import Plan
from pybrix.runtime.errors import Retry, TerminalError
from pybrix.runtime.metrics import QUEUE_LENGTH, RECONCILE_SECONDS, RECONCILES
from pybrix.runtime.workqueue import LAST_BACKOFF_S, WorkQueue

T = TypeVar("T", bound=Object)
Predicate = Callable[[T, T], bool]
"""Says of an object before and after whether the change matters. Asked about modifications only."""

CONFLICT_BACKOFF_S = 1.0
"""Longest time before a conflict is planned anew: the cache shows what is newer, sooner or later."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class For(Generic[T]):
    """The kind that the keys name."""

    informer: Informer[T]
    when: Predicate[T] | None = None

    def keys(self, obj: T) -> Iterable[ObjectKey]:
        return (obj.key,)


@dataclass(frozen=True, slots=True)
class Owns(Generic[T]):
    """Children whose controller reference leads to the key."""

    informer: Informer[T]
    owner: type[Object]
    when: Predicate[T] | None = None

    def keys(self, obj: T) -> Iterable[ObjectKey]:
        reference = obj.metadata.controller
        if reference is None or reference.kind != self.owner.gvk.kind:
            return ()
        # The version of a reference may be another one that the same group serves.
        if reference.api_version.rpartition("/")[0] != self.owner.gvk.group:
            return ()
        return (ObjectKey(obj.metadata.namespace if self.owner.gvk.is_namespaced else "", reference.name),)


@dataclass(frozen=True, slots=True)
class Watches(Generic[T]):
    """Anything else, with a function that says which keys it concerns."""

    informer: Informer[T]
    to_keys: Callable[[T], Iterable[ObjectKey]]
    when: Predicate[T] | None = None

    def keys(self, obj: T) -> Iterable[ObjectKey]:
        return self.to_keys(obj)


Source = For[Any] | Owns[Any] | Watches[Any]


@dataclass(frozen=True, slots=True)
class Result:
    """A pass whose reconciler applied its actions itself. None: look again only when something changes."""

    requeue_after_s: float | None = None


Reconciler = Callable[[ObjectKey], Awaitable[Plan | Result | None]]


class Executor(Protocol):
    """Who carries out plans: `runtime.apply.Applier`."""

    async def apply(self, actions: Iterable[Any], *, controller: str = "") -> None: ...


class Controller:
    """Reconcile keys, each by one worker at a time.

    Args:
        sources: what makes keys; at least one.
        reads: informers that the reconciler reads but whose changes do not matter; waited for as well.
        optional: of these informers, those of kinds that the reconciler can do without for a time: it is not parked
            while the server does not know one, and asks the informer itself.
        concurrency: keys that are worked on at the same time; 1.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconciler,
        *,
        sources: Sequence[Source],
        reads: Sequence[Informer[Any]] = (),
        optional: Sequence[Informer[Any]] = (),
        concurrency: int = 1,
    ) -> None:
        self.name = name
        self.informers: tuple[Informer[Any], ...] = (*(s.informer for s in sources), *reads)
        self.is_running = False
        """Whether workers run: everything it reads was complete once, and this process leads."""
        self._reconcile = reconcile
        self._sources = sources
        self._optional = frozenset(map(id, optional))
        self._concurrency = concurrency
        self._queue: WorkQueue[ObjectKey] | None = None
        self._causes: dict[ObjectKey, str] = {}
        self._log = _log.bind(controller=name)
        for source in sources:
            source.informer.add_handler(self._handler(source))

    @property
    def is_parked(self) -> bool:
        """Say whether it waits for a kind that the server does not know."""
        return not self.is_running and any(
            i.is_parked and not i.has_synced for i in self.informers if id(i) not in self._optional
        )

    def enqueue(self, key: ObjectKey, cause: str = "request") -> None:
        """Ask for a pass, beside what the sources ask for. The first cause of a pass is the one that is counted."""
        if self._queue is not None:
            self._causes.setdefault(key, cause)
            self._queue.add(key)
            QUEUE_LENGTH.labels(self.name).set(len(self._queue))

    async def run(self, executor: Executor) -> None:
        """Wait until the caches are complete, take every object there is, then follow the changes.

        Returns after `stop`, when the passes under way are finished.
        """
        queue = self._queue = WorkQueue()
        try:
            for informer in self.informers:
                is_optional = id(informer) in self._optional
                await (informer.wait_settled() if is_optional else informer.wait_synced())
            for source in self._sources:
                for obj in source.informer.list():
                    self._enqueue_all(source, obj, "start")
            self._log.info("controller started", waiting=len(queue))
            self.is_running = True
            async with asyncio.TaskGroup() as group:
                for number in range(self._concurrency):
                    group.create_task(self._work(queue, executor), name=f"{self.name}-{number}")
        finally:
            self.is_running = False
            self._queue = None
            self._causes.clear()
            self._log.info("controller stopped")

    def stop(self) -> None:
        """Begin no further pass; has an effect while `is_running`, before that `run` is to be cancelled."""
        if self._queue is not None:
            self._queue.shut_down()

    def _handler(self, source: Source) -> Callable[[EventType, Any, Any], None]:
        def handle(event: EventType, old: Any, new: Any) -> None:
            # Changes before `run` do not matter: it begins with everything that is there.
            if self._queue is None:
                return
            is_change = event is EventType.MODIFIED and old is not None and new is not None
            if is_change and source.when is not None and not source.when(old, new):
                return
            # The old object counts, too: what it concerned must learn that this is over.
            for obj in (old, new):
                if obj is not None:
                    self._enqueue_all(source, obj, source.informer.cls.gvk.kind)

        return handle

    def _enqueue_all(self, source: Source, obj: Any, cause: str) -> None:
        try:
            for key in source.keys(obj):
                self.enqueue(key, cause)
        except Exception:  # noqa: BLE001
            # A mapping that cannot cope with one object must not keep the others from being reconciled.
            self._log.exception("cannot tell whom an object concerns", kind=obj.gvk.kind, object=str(obj.key))

    async def _work(self, queue: WorkQueue[ObjectKey], executor: Executor) -> None:
        while (key := await queue.get()) is not None:
            QUEUE_LENGTH.labels(self.name).set(len(queue))
            cause = self._causes.pop(key, None) or ("retry" if queue.failures(key) else "requeue")
            try:
                with RECONCILE_SECONDS.labels(self.name).time():
                    result = await self._pass(key, queue, executor)
                RECONCILES.labels(self.name, cause, result).inc()
            finally:
                queue.done(key)

    async def _pass(self, key: ObjectKey, queue: WorkQueue[ObjectKey], executor: Executor) -> str:
        """Reconcile one key, say when to look again, and return the result's name."""
        log = self._log.bind(key=str(key))
        try:
            outcome = await self._reconcile(key)
            if isinstance(outcome, Plan):
                await executor.apply(outcome.actions, controller=self.name)
        except Conflict as err:
            # A cache that lags is no fault; a name that somebody else has may be one for good.
            delay_s = queue.add_failed(key, LAST_BACKOFF_S if isinstance(err, AlreadyExists) else CONFLICT_BACKOFF_S)
            log.info("planning again after a conflict", error=str(err), delay_s=delay_s)
            return "conflict"
        except Retry as err:
            queue.forget(key)
            queue.add_after(key, err.after_s)
            log.info("looking again later", why=str(err), delay_s=err.after_s)
            return "requeue"
        except TooManyRequests as err:
            queue.add_after(key, err.retry_after_s)
            log.warning("the API server asks to wait", delay_s=err.retry_after_s)
            return "error"
        except TerminalError as err:
            queue.forget(key)
            log.error("giving up until the object changes", error=str(err))
            return "terminal"
        except KubeError as err:
            # An answer of the server (or none): where it was asked from tells nobody anything.
            delay_s = queue.add_failed(key)
            log.warning("reconcile failed", error=str(err), failures=queue.failures(key), delay_s=delay_s)
            return "error"
        except Exception:
            delay_s = queue.add_failed(key)
            log.exception("reconcile failed", failures=queue.failures(key), delay_s=delay_s)
            return "error"
        queue.forget(key)
        if outcome is None or outcome.requeue_after_s is None:
            return "success"
        queue.add_after(key, outcome.requeue_after_s)
        return "requeue"
