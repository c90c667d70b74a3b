"""What one process runs: shared informers, controllers over them, an election if wanted, and an orderly end.

    manager = Manager(client, component="pybrix-workloads", clock=SystemClock(), chance=random.Random())
    pods = manager.informer(Pod)
    manager.add(Controller("replicaset", reconcile, sources=[...]))
    await manager.run()

The end, by `stop` or by cancellation: controllers first (`stop` lets passes under way finish), then the lease is given
back, then the informers stop. The client stays open; it belongs to the caller.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from pybrix.api.meta import Object
from pybrix.base.clock import Clock
from pybrix.kube.informer import Informer
from pybrix.kube.interface import Client
from pybrix.runtime.apply import Applier
from pybrix.runtime.controller import Controller
from pybrix.runtime.events import EventRecorder
from pybrix.runtime.expectations import Expectations
from pybrix.runtime.leader import LeaderConfig, LeaderElector

T = TypeVar("T", bound=Object)
Loop = Callable[[], Awaitable[None]]
"""Background work that goes on until it is cancelled."""

LOOP_RETRY_S = 5.0
"""Pause before background work that failed begins again."""

_log = structlog.get_logger()


class Manager:
    """Own the informers and controllers of a process.

    A controller whose kind the server does not know waits for it alone; the others run.

    Args:
        component: name in Events and logs.
        leader: elect one of several processes; None: this one always works.
        grace_s: time that passes under way get at `stop`; 10.
    """

    def __init__(
        self,
        client: Client,
        *,
        component: str,
        clock: Clock,
        chance: random.Random,
        leader: LeaderConfig | None = None,
        grace_s: float = 10.0,
    ) -> None:
        self.client = client
        self.recorder = EventRecorder(client, clock, component=component)
        self.applier = Applier(client, self.recorder)
        self._clock = clock
        self._chance = chance
        self._grace_s = grace_s
        self._elector = None if leader is None else LeaderElector(client, leader, clock=clock, chance=chance)
        self._informers: dict[tuple[type[Object], str | None, str, str], Informer[Any]] = {}
        self._expectations: dict[type[Object], Expectations[Any]] = {}
        self._controllers: list[Controller] = []
        self._loops: dict[str, Loop] = {}
        self._stopping = asyncio.Event()
        self._followers: asyncio.TaskGroup | None = None
        self._following: list[asyncio.Task[None]] = []
        self._log = _log.bind(component=component)

    def informer(
        self, cls: type[T], *, namespace: str | None = None, label_selector: str = "", field_selector: str = ""
    ) -> Informer[T]:
        """Return the informer of this kind and selection; it is made once and shared."""
        name = (cls, namespace, label_selector, field_selector)
        if name not in self._informers:
            informer = self._informers[name] = Informer(
                self.client,
                cls,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                chance=self._chance,
            )
            self._follow(informer)
        return self._informers[name]

    def expectations(self, cls: type[T]) -> Expectations[T]:
        """Return the expectations about children of a kind, to which the applier adds what it does."""
        if cls not in self._expectations:
            expectations = self._expectations[cls] = Expectations(self.informer(cls), self._clock)
            self.applier.note_writes(expectations)
        return self._expectations[cls]

    def add(self, controller: Controller) -> None:
        """Add a controller, before `run`. Its informers must be those of this manager."""
        own = set(map(id, self._informers.values()))
        for informer in controller.informers:
            if id(informer) not in own:
                raise ValueError(f"{controller.name}: the informer of {informer.cls.gvk.kind} is not the manager's")
        self._controllers.append(controller)

    def add_loop(self, name: str, loop: Loop) -> None:
        """Add background work, before `run`: it runs beside the controllers while this process leads.

        It is cancelled at the end. One that returns is over; one that raises is logged and begun again.
        """
        if name in self._loops:
            raise ValueError(f"there is a loop {name!r} already")
        self._loops[name] = loop

    @property
    def is_healthy(self) -> bool:
        """Say whether `run` is under way. An API server that is away makes nobody unhealthy."""
        return self._followers is not None

    @property
    def is_ready(self) -> bool:
        """Say whether every cache was complete once, those of unknown kinds excepted; true of a standby, too."""
        return self.is_healthy and all(i.has_synced or i.is_parked for i in self._informers.values())

    async def wait_synced(self) -> None:
        """Return when every cache was complete once; kinds that the server does not know hold that up."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    @property
    def is_leader(self) -> bool:
        return self._elector is None or self._elector.is_leader

    def describe(self) -> dict[str, Any]:
        """Return the state for `/readyz` and people: what runs, what waits, how old the caches are."""
        now_s = self._clock.monotonic_s()
        return {
            "leader": self.is_leader,
            "controllers": {
                c.name: "running" if c.is_running else "parked" if c.is_parked else "waiting" for c in self._controllers
            },
            "informers": {
                i.cls.gvk.plural: {
                    "synced": i.has_synced,
                    "age_s": None if i.last_contact_s is None else round(now_s - i.last_contact_s, 1),
                }
                for i in self._informers.values()
            },
        }

    def stop(self) -> None:
        """Make `run` end in order."""
        self._stopping.set()

    async def run(self) -> None:
        """Run everything until `stop` or cancellation."""
        try:
            async with asyncio.TaskGroup() as group:
                self._followers = group
                for informer in self._informers.values():
                    self._follow(informer)
                await self._lead()
                self._log.info("stopping the informers")
                for task in self._following:
                    task.cancel()
        finally:
            self._followers = None
            self._following.clear()

    def _follow(self, informer: Informer[Any]) -> None:
        """Start an informer; before `run` it waits for that."""
        if self._followers is not None:
            task = self._followers.create_task(informer.run(), name=f"informer-{informer.cls.gvk.plural}")
            self._following.append(task)

    async def _lead(self) -> None:
        if self._elector is None:
            await self._control()
            return
        async with asyncio.TaskGroup() as group:
            leading = group.create_task(self._elector.run(self._control), name="leader-election")
            await self._stopping.wait()
            if not self._elector.is_leader:
                leading.cancel()

    async def _control(self) -> None:
        """Run the controllers; after `stop`, let them finish what they are at."""
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(self._loop(name, loop), name=name) for name, loop in self._loops.items()]
            tasks = {
                controller: group.create_task(controller.run(self.applier), name=controller.name)
                for controller in self._controllers
            }
            await self._stopping.wait()
            for controller, task in tasks.items():
                if controller.is_running:
                    controller.stop()
                else:
                    task.cancel()
            if tasks:
                _, late = await asyncio.wait(tasks.values(), timeout=self._grace_s)
                for task in late:
                    self._log.warning("a pass did not finish in time and is cut off", controller=task.get_name())
                    task.cancel()
            for task in loops:
                task.cancel()

    async def _loop(self, name: str, loop: Loop) -> None:
        while True:
            try:
                await loop()
            except Exception:  # noqa: BLE001
                # One loop's fault must not end the controllers.
                self._log.exception("background work failed; it begins again", loop=name, delay_s=LOOP_RETRY_S)
                await asyncio.sleep(LOOP_RETRY_S)
            else:
                return
