"""The engines that adapters are loaded into: what each lists, and the loads and unloads under way.

One task per pod lists its models, every now and then and whenever something speaks for a change: its containers
restarted, it became ready, a request to it ended. Loads and unloads are tasks of their own with deadlines, so that no
controller waits for an engine, and a pod that hangs holds up nobody else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog

from pybrix.api.config import ModelAdapterConfiguration
from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import Clock
from pybrix.controllers.modeladapter.loads import PageAt, PageReader, load_of
from pybrix.controllers.modeladapter.metrics import ENGINE_REQUEST_SECONDS, ENGINE_REQUESTS
from pybrix.controllers.modeladapter.state import EngineRequest, EngineSeen, Outcome, PodFacts, PodLoad, Verb
from pybrix.engine.adapters import (
    AdapterError,
    AdapterProtocol,
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AlreadyLoaded,
    ServedModel,
    UnknownAdapter,
)

LIST_DEADLINE_S = 5.0
FIRST_RETRY_S = 0.5
CONCURRENT_LISTS = 64
MOST_KEYS = 16
"""Bearer tokens that are kept of a pod; adapters offer theirs in every pass, so a dropped one comes back."""
UNAUTHORIZED = frozenset({401, 403})

_log = structlog.get_logger()


class EngineAdmin(Protocol):
    """Who speaks to engines: `engine.adapterclient.AdapterClient`. Raises `AdapterError` only."""

    async def list_models(self, target: AdapterTarget, *, deadline_s: float) -> tuple[ServedModel, ...]: ...

    async def load(self, target: AdapterTarget, source: AdapterSource, *, deadline_s: float) -> None: ...

    async def unload(self, target: AdapterTarget, name: str, *, deadline_s: float) -> None: ...


class Listener(Protocol):
    """Who hears of engines."""

    def listed(self, pod: Uid, names: Iterable[str]) -> None:
        """Take note that models of these names appeared, vanished or changed."""
        ...

    def answered(self, pod: Uid) -> None:
        """Take note that an engine answers again or for the first time, falls silent, or begins to refuse."""
        ...

    def ended(self, adapter: ObjectKey) -> None:
        """Take note that a request of an adapter ended."""
        ...


@dataclass(slots=True, eq=False)
class _Session:
    """One pod's engine."""

    facts: PodFacts
    seen: EngineSeen = field(default_factory=EngineSeen)
    api_key: str = ""
    """The bearer token in use."""
    has_worked: bool = False
    """Whether the engine took that token when it was last asked."""
    keys: list[str] = field(default_factory=list)
    """Tokens that adapters offer, oldest first."""
    begun: int = 0
    """Lists that were begun."""
    valid_from: int = 0
    """The first list that tells of the containers that run now."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    waiters: list[tuple[int, asyncio.Future[bool]]] = field(default_factory=list)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    task: asyncio.Task[None] | None = None
    is_load_wanted: bool = False
    page: PageAt | None = None
    load: PodLoad | None = None
    """None: not asked for yet."""


@dataclass(slots=True, eq=False)
class _Job:
    request: EngineRequest
    adapter: ObjectKey
    is_begun: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Loads:
    """A view of how busy each pod's engine is."""

    engines: Engines

    def get(self, pod: Uid, /) -> PodLoad | None:
        return self.engines.load_of(pod)


class Engines:
    """The sessions of all pods that adapters select, and the requests to them.

    Nothing is asked of engines before `run`, and all is forgotten when it ends: another process may lead meanwhile.
    """

    def __init__(
        self, config: ModelAdapterConfiguration, chance: random.Random, pages: PageReader, clock: Clock
    ) -> None:
        self.listener: Listener | None = None
        self._admin: EngineAdmin | None = None
        self._config = config
        self._chance = chance
        self._pages = pages
        self._clock = clock
        self._sessions: dict[Uid, _Session] = {}
        self._jobs: dict[Uid, dict[Uid, _Job]] = {}
        self._outcomes: dict[Uid, dict[Uid, Outcome]] = {}
        self._loads = asyncio.Semaphore(config.concurrent_requests)
        self._lists = asyncio.Semaphore(CONCURRENT_LISTS)
        self._group: asyncio.TaskGroup | None = None
        self._listing: dict[tuple[str, str], set[Uid]] = {}

    async def run(self, admin: EngineAdmin) -> None:
        """Follow the engines until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group, self._admin = group, admin
                for session in self._sessions.values():
                    self._start(session)
                try:
                    await asyncio.Event().wait()
                finally:
                    # From here on the group takes no more tasks.
                    self._group = None
        finally:
            self._jobs.clear()
            self._outcomes.clear()
            self._listing.clear()
            for session in self._sessions.values():
                session.task = None
                session.seen = EngineSeen()
                session.waiters.clear()

    # What is known

    def get(self, pod: Uid, default: EngineSeen | None = None) -> EngineSeen | None:
        """Return what a pod's engine answered last."""
        session = self._sessions.get(pod)
        return session.seen if session is not None else default

    def load_of(self, pod: Uid) -> PodLoad | None:
        """Return how busy a pod's engine is; None when that was not asked for yet."""
        session = self._sessions.get(pod)
        return session.load if session is not None else None

    def want_loads(self, pods: Iterable[Uid]) -> None:
        """Read from now on how busy these pods are, too."""
        for uid in pods:
            session = self._sessions.get(uid)
            if session is not None and not session.is_load_wanted:
                session.is_load_wanted = True
                session.wake.set()

    def listing(self, namespace: str, name: str) -> frozenset[Uid]:
        """Return the pods of a namespace whose engines list a name."""
        return frozenset(self._listing.get((namespace, name), ()))

    def busy(self, adapter: Uid) -> frozenset[Uid]:
        """Return the pods in which a request of an adapter waits or is under way."""
        return frozenset(self._jobs.get(adapter, ()))

    def outcomes(self, adapter: Uid) -> Mapping[Uid, Outcome]:
        """Return what came of the requests that ended; `forget_outcomes` when it is written down."""
        return dict(self._outcomes.get(adapter, {}))

    def forget_outcomes(self, adapter: Uid, outcomes: Mapping[Uid, Outcome]) -> None:
        known = self._outcomes.get(adapter, {})
        for uid, outcome in outcomes.items():
            if known.get(uid) is outcome:
                del known[uid]
        if not known:
            self._outcomes.pop(adapter, None)

    # Pods

    def follow(self, facts: PodFacts) -> None:
        """List the models of a pod from now on, or learn how it is now."""
        session = self._sessions.get(facts.uid)
        if session is None:
            session = self._sessions[facts.uid] = _Session(
                facts, slots=asyncio.Semaphore(self._config.requests_per_pod)
            )
            self._start(session)
            return
        before, session.facts = session.facts, facts
        if before.containers != facts.containers and before.containers:
            has_lost = session.seen.models is not None or session.seen.has_restarted
            self._set(session, EngineSeen(has_restarted=has_lost))
            session.valid_from = session.begun + 1
            session.wake.set()
        elif (before.are_containers_ready, before.addresses) != (facts.are_containers_ready, facts.addresses):
            session.wake.set()

    def forget(self, uid: Uid) -> None:
        """Stop asking a pod that is gone or concerns no adapter any more; requests to it end without a word."""
        session = self._sessions.pop(uid, None)
        if session is None:
            return
        self._set(session, EngineSeen())
        if session.task is not None:
            session.task.cancel()
        for adapter, jobs in list(self._jobs.items()):
            if (job := jobs.pop(uid, None)) is not None:
                if job.task is not None:
                    job.task.cancel()
                self._tell_ended(job.adapter)
            if not jobs:
                del self._jobs[adapter]

    def offer_key(self, uid: Uid, api_key: str) -> None:
        """Let the lists of a pod use a bearer token when the one in use does not work."""
        session = self._sessions.get(uid)
        if session is None or api_key in session.keys:
            return
        session.keys.append(api_key)
        if len(session.keys) > MOST_KEYS:
            session.keys.remove(next(key for key in session.keys if key != session.api_key))
        if not session.has_worked:
            session.wake.set()

    # Requests

    def submit(self, adapter: ObjectKey, uid: Uid, request: EngineRequest) -> None:
        """Begin a request of an adapter, unless one to that pod is under way."""
        jobs = self._jobs.setdefault(uid, {})
        if self._group is None or request.pod_uid in jobs or request.pod_uid not in self._sessions:
            if not jobs:
                del self._jobs[uid]
            return
        job = jobs[request.pod_uid] = _Job(request, adapter)
        job.task = self._group.create_task(self._work(uid, job), name=f"{request.verb}-{adapter}")

    def withdraw(self, adapter: Uid) -> None:
        """Cancel the requests of an adapter that still wait for their turn."""
        for pod, job in list(self._jobs.get(adapter, {}).items()):
            if not job.is_begun and job.task is not None:
                job.task.cancel()
                del self._jobs[adapter][pod]
        if not self._jobs.get(adapter, True):
            del self._jobs[adapter]

    async def _work(self, adapter: Uid, job: _Job) -> None:
        session = self._sessions[job.request.pod_uid]
        log = _log.bind(adapter=str(job.adapter), pod=str(session.facts.key), verb=str(job.request.verb))
        async with session.slots, self._loads:
            job.is_begun = True
            log.info("engine request", why=job.request.why)
            with ENGINE_REQUEST_SECONDS.labels(str(job.request.verb)).time():
                outcome = await self._carry_out(job.request)
            if not outcome.reason and not await self._refresh(session):
                outcome = Outcome(job.request.verb, "EngineUnreachable", "done, but the engine lists nothing since")
        ENGINE_REQUESTS.labels(str(job.request.verb), outcome.reason or "success").inc()
        if outcome.reason:
            log.warning("engine request failed", reason=outcome.reason, message=outcome.message)
        jobs = self._jobs.get(adapter, {})
        if jobs.get(job.request.pod_uid) is job:
            del jobs[job.request.pod_uid]
            if not jobs:
                self._jobs.pop(adapter, None)
            self._outcomes.setdefault(adapter, {})[job.request.pod_uid] = outcome
            self._tell_ended(job.adapter)

    @property
    def _asks(self) -> EngineAdmin:
        assert self._admin is not None, "nothing is asked before run"
        return self._admin

    def _set(self, session: _Session, seen: EngineSeen) -> None:
        """Keep what an engine lists, and the index of it."""
        uid, namespace = session.facts.uid, session.facts.key.namespace
        before, now = session.seen.models or {}, seen.models or {}
        session.seen = seen
        for name in before:
            if name not in now:
                pods = self._listing.get((namespace, name), set())
                pods.discard(uid)
                if not pods:
                    self._listing.pop((namespace, name), None)
        for name in now:
            if name not in before:
                self._listing.setdefault((namespace, name), set()).add(uid)

    async def _carry_out(self, request: EngineRequest) -> Outcome:
        name = request.source.name
        try:
            if request.verb is Verb.UNLOAD:
                await self._unload_with_keys(request)
                return Outcome(request.verb)
            if request.is_replacing:
                await self._unload(request.target, name)
            try:
                await self._load(request)
            except AlreadyLoaded:
                # From whatever artifact: only after an unload is it known to be this one.
                await self._unload(request.target, name)
                await self._load(request)
        except AdapterError as err:
            return Outcome(request.verb, err.reason, err.message)
        return Outcome(request.verb)

    async def _load(self, request: EngineRequest) -> None:
        is_fetched = request.target.protocol is AdapterProtocol.SIDECAR
        deadline_s = self._config.sidecar_load_deadline_s if is_fetched else self._config.load_deadline_s
        await self._asks.load(request.target, request.source, deadline_s=deadline_s)

    async def _unload_with_keys(self, request: EngineRequest) -> None:
        """Unload with the adapter's own token; where that is gone or wrong, with the one that the engine takes."""
        target, session = request.target, self._sessions.get(request.pod_uid)
        working = session.api_key if session is not None and session.has_worked else ""
        if not target.api_key:
            target = replace(target, api_key=working)
        try:
            await self._unload(target, request.source.name)
        except AdapterRefused as err:
            if err.status not in UNAUTHORIZED or working in ("", target.api_key):
                raise
            await self._unload(replace(target, api_key=working), request.source.name)

    async def _unload(self, target: AdapterTarget, name: str) -> None:
        with suppress(UnknownAdapter):
            await self._asks.unload(target, name, deadline_s=self._config.unload_deadline_s)

    # Lists

    def _start(self, session: _Session) -> None:
        if self._group is not None:
            session.task = self._group.create_task(self._follow(session), name=f"engine-{session.facts.key}")

    async def _refresh(self, session: _Session) -> bool:
        """Wait for a list that begins from now on; say whether the engine answered."""
        waiter = asyncio.get_running_loop().create_future()
        session.waiters.append((session.begun + 1, waiter))
        session.wake.set()
        return bool(await waiter)

    async def _follow(self, session: _Session) -> None:
        while True:
            session.wake.clear()
            if session.facts.is_alive:
                if session.is_load_wanted:
                    await self._read_load(session)
                await self._list(session)
            else:
                self._resolve(session, session.begun + 1, is_answer=False)
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(session)):
                    await session.wake.wait()

    def _pause_s(self, session: _Session) -> float | None:
        if not session.facts.is_alive:
            return None
        interval_s = self._config.list_interval_s
        failures = session.seen.failures
        if failures:
            interval_s = min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 16), interval_s)
        return interval_s * self._chance.uniform(0.9, 1.1)

    async def _list(self, session: _Session) -> None:
        async with self._lists:
            session.begun += 1
            number = session.begun
            try:
                models = await self._list_with_keys(session)
            except AdapterError as err:
                self._take_silence(session, f"{err.reason}: {err.message}", isinstance(err, AdapterRefused))
                self._resolve(session, number, is_answer=False)
                return
        if number >= session.valid_from:
            self._take(session, models)
        self._resolve(session, number, is_answer=number >= session.valid_from)

    async def _list_with_keys(self, session: _Session) -> tuple[ServedModel, ...]:
        """List with the token in use, and where that is not taken, at once with the others on offer."""
        tried: set[str] = set()
        if not session.api_key and not session.has_worked and session.keys:
            session.api_key = session.keys[0]
        while True:
            api_key = session.api_key
            tried.add(api_key)
            try:
                models = await self._asks.list_models(session.facts.target(api_key), deadline_s=LIST_DEADLINE_S)
            except AdapterRefused as err:
                if err.status not in UNAUTHORIZED:
                    raise
                session.has_worked = False
                other = next((key for key in session.keys if key not in tried), None)
                if other is None:
                    raise
                session.api_key = other
            else:
                session.has_worked = True
                return models

    async def _read_load(self, session: _Session) -> None:
        page = await self._pages.read_page(session.facts, session.api_key)
        if page is None:
            session.page, session.load = None, PodLoad()
            return
        now = PageAt(page, self._clock.now().timestamp())
        session.load = load_of(session.page, now)
        session.page = now

    def _take(self, session: _Session, models: tuple[ServedModel, ...]) -> None:
        before = session.seen
        now = {model.id: model for model in models}
        self._set(session, EngineSeen(now))
        if self.listener is None:
            return
        if before.models is None or before.failures >= 3 or before.is_refusing:
            self.listener.answered(session.facts.uid)
        elif before.models != now:
            known = before.models
            changed = [name for name in {*known, *now} if known.get(name) != now.get(name)]
            self.listener.listed(session.facts.uid, changed)

    def _take_silence(self, session: _Session, error: str, is_refusing: bool) -> None:
        before = session.seen
        failures = before.failures + 1
        session.seen = EngineSeen(before.models, failures, error, before.has_restarted, is_refusing)
        is_news = failures == 3 or (is_refusing and not before.is_refusing)
        if is_news and self.listener is not None:
            self.listener.answered(session.facts.uid)

    @staticmethod
    def _resolve(session: _Session, number: int, *, is_answer: bool) -> None:
        waiting, session.waiters = session.waiters, []
        for least, waiter in waiting:
            if least > number:
                session.waiters.append((least, waiter))
            elif not waiter.done():
                waiter.set_result(is_answer)

    def _tell_ended(self, adapter: ObjectKey) -> None:
        if self.listener is not None:
            self.listener.ended(adapter)
