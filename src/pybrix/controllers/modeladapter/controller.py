"""Keep LoRA adapters where they shall be: the shell around `plan`, `render` and `status`.

A pass reads what is known, plans, writes Service, slices and status, and only then hands the requests to the engines:
before an engine does anything, the status says that it was asked to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec
import structlog

from pybrix.api.core import EndpointSlice, Pod, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter, ModelAdapterStatus
from pybrix.controllers.credentials import NONE, Credentials
from pybrix.controllers.credentialsreader import FRESH_S, RETRY_S, CredentialsReader
from pybrix.controllers.modeladapter.engines import EngineAdmin, Engines, Loads
from pybrix.controllers.modeladapter.events import transitions
from pybrix.controllers.modeladapter.gates import GateReconciler
from pybrix.controllers.modeladapter.loads import HttpPageReader, PageReader
from pybrix.controllers.modeladapter.memory import Memories, Memory
from pybrix.controllers.modeladapter.placement import BY_METRICS, policy_of
from pybrix.controllers.modeladapter.plan import Decision, plan
from pybrix.controllers.modeladapter.render import is_ours, plan_service, plan_slices
from pybrix.controllers.modeladapter.selection import Group, Selection
from pybrix.controllers.modeladapter.state import ADAPTER_NAME, FINALIZER, Observed, api_key_of, read_pod
from pybrix.controllers.modeladapter.status import SERVICE_ERROR, SLICE_ERROR, Trouble, next_status
from pybrix.controllers.modeladapter.zones import Zones
from pybrix.controllers.registration import Registration, Setup
from pybrix.engine.adapterclient import open_adapter_client
from pybrix.kube.errors import AlreadyExists, Conflict, KubeError
from pybrix.kube.interface import EventType
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, PatchStatus
from pybrix.runtime.controller import Controller, For, Result, Watches
from pybrix.runtime.manager import Manager
from pybrix.runtime.ownview import OwnView

NAME = "modeladapter"
BY_OWNER = "modeladapter-owner"
GATHER_S = 0.05
"""Requests of one adapter that end within this time make one pass."""
COUNTED_S = 10.0
"""When adapters that a change of pods does not touch count their candidates anew."""
UNLOAD_INCOMPLETE = "UnloadIncomplete"
POLICY_FALLBACK = "PolicyFallback"

AdminFactory = Callable[[], AbstractAsyncContextManager[EngineAdmin]]

_log = structlog.get_logger()


class ModelAdapterReconciler:
    """Observe from shared caches and engines, plan, carry it out, tell how it is going."""

    def __init__(
        self, setup: Setup, open_admin: AdminFactory = open_adapter_client, pages: PageReader | None = None
    ) -> None:
        manager: Manager = setup.manager
        self._setup = setup
        self._config = setup.config.model_adapter
        self._clock = setup.clock
        self._applier = manager.applier
        self._open_admin = open_admin
        self._adapters = manager.informer(ModelAdapter)
        self._pods = manager.informer(Pod)
        self._services = manager.informer(Service)
        self._slices = manager.informer(EndpointSlice)
        self._slices.add_index(BY_OWNER, _owner_values)
        self._own_adapters = OwnView(self._adapters, manager.applier, setup.clock)
        self._own_services = OwnView(self._services, manager.applier, setup.clock)
        self._own_slices = OwnView(self._slices, manager.applier, setup.clock)
        self._selection = Selection()
        self._memories = Memories()
        self._engines = Engines(self._config, setup.chance, pages or HttpPageReader(setup.http), setup.clock)
        self._engines.listener = self
        self._secrets = CredentialsReader(manager.client, setup.clock)
        self._zones = Zones(manager.client, setup.clock)
        self._hungry: set[ObjectKey] = set()
        """Adapters that have fewer pods than they shall have, or failures in them: any new pod concerns them."""
        self._unplanned: dict[Uid, set[ObjectKey]] = {}
        """Of pods with a readiness gate: the adapters that have yet to consider them."""
        self._is_leading = False
        self._soon: dict[ObjectKey, asyncio.TimerHandle] = {}
        self._recounts: dict[int, asyncio.TimerHandle] = {}
        self._controller = Controller(
            NAME,
            self.reconcile,
            sources=[
                For(self._adapters, when=self._is_news),
                Watches(self._services, _whose, when=lambda _, new: not self._own_services.is_own(new)),
                Watches(self._slices, _whose, when=lambda _, new: not self._own_slices.is_own(new)),
            ],
            reads=[self._pods],
            concurrency=setup.concurrency(NAME),
        )
        self._gates = GateReconciler(
            self._pods, self._selection, self._memories, self._engines, self._unplanned, setup.clock
        )
        # After the controller's own handlers: whom an object concerns is asked by these.
        self._adapters.add_handler(self._on_adapter)
        self._pods.add_handler(self._on_pod)
        manager.add_loop(f"{NAME}-engines", self._run_engines)

    def controllers(self) -> Sequence[Controller]:
        return [self._controller, self._gates.controller]

    async def _run_engines(self) -> None:
        """Work with engines while this process leads, from what is written now: another one may have led before."""
        await self._adapters.wait_synced()
        await self._pods.wait_synced()
        for adapter in self._adapters.list():
            self._memories.begin(adapter)
        self._is_leading = True
        try:
            async with self._open_admin() as admin:
                for adapter in self._adapters.list():
                    self._controller.enqueue(adapter.key)
                await self._engines.run(admin)
        finally:
            self._is_leading = False
            self._memories.clear()
            self._hungry.clear()
            self._unplanned.clear()

    # One pass

    async def reconcile(self, key: ObjectKey) -> Result | None:
        adapter = self._adapters.get(key)
        if adapter is None or not self._is_leading:
            # The engines' loop enqueues all adapters when it begins.
            return None
        secret = await self._read_secret(adapter)
        # What was awaited may have changed everything.
        adapter = self._own_adapters.get(key)
        if adapter is None or not self._is_leading:
            return None
        if adapter.metadata.is_terminating:
            return await self._remove(adapter, secret)
        memory = self._memories.of(adapter)
        seen = self._observe(adapter, memory, secret)
        decision = plan(seen, self._clock.now(), drain_s=self._config.drain_s)
        self._remember(adapter, seen, decision)
        trouble, error = await self._write(seen, decision, memory)
        await self._tell(seen, decision, trouble)
        if error is not None:
            raise error
        for request in decision.requests:
            self._engines.submit(key, adapter.uid, request)
        return Result(self._again_s(adapter, decision))

    def _observe(self, adapter: ModelAdapter, memory: Memory, secret: Credentials) -> Observed:
        group = self._selection.group_of(adapter.key)
        leavers = {
            uid: pod
            for uid in memory.records
            if uid not in group.members and (pod := self._selection.pod(uid)) is not None
        }
        slices = self._own_slices.of_controller(self._slices.by_index(BY_OWNER, adapter.uid), adapter.uid)
        service = self._own_services.get(adapter.key)
        api_key = api_key_of(adapter, secret.values)
        if api_key:
            for uid in (*group.members, *leavers):
                self._engines.offer_key(uid, api_key)
        if policy_of(adapter.spec.scheduler_name, self._config.scheduler_policy)[0] in BY_METRICS:
            self._engines.want_loads(group.members)
        return Observed(
            adapter,
            members=group.members,
            survey=group.survey,
            leavers=leavers,
            engines=self._engines,
            listed_in=self._engines.listing(adapter.metadata.namespace, adapter.metadata.name),
            records=memory.records,
            busy=self._engines.busy(adapter.uid),
            outcomes=self._engines.outcomes(adapter.uid),
            occupancy=self._memories.occupancy(adapter.uid),
            loads=Loads(self._engines),
            policy=self._config.scheduler_policy,
            credentials=secret.values,
            credentials_problem=secret.problem,
            service=service if service is not None and is_ours(service, adapter) else None,
            slices=tuple(slices),
            taken=frozenset(memory.taken),
        )

    def _remember(self, adapter: ModelAdapter, seen: Observed, decision: Decision) -> None:
        memory = self._memories.of(adapter)
        before = memory.records
        self._memories.put(adapter.uid, decision.records)
        self._engines.forget_outcomes(adapter.uid, seen.outcomes)
        for uid in {*before, *decision.records}:
            old, new = before.get(uid), decision.records.get(uid)
            if (old.state if old else None) != (new.state if new else None):
                self._gates.wake(uid)
                if new is None:
                    self._room_made(uid)
                    self._unfollow(uid)
        for uid, waiting in list(self._unplanned.items()):
            waiting.discard(adapter.key)
            if not waiting:
                del self._unplanned[uid]
                self._gates.wake(uid)
        is_short = len(decision.targets) < decision.desired or any(r.attempts for r in decision.records.values())
        if is_short and adapter.spec.replicas is not None:
            self._hungry.add(adapter.key)
        else:
            self._hungry.discard(adapter.key)

    async def _write(
        self, seen: Observed, decision: Decision, memory: Memory
    ) -> tuple[Trouble | None, KubeError | None]:
        """Write the finalizer, the Service and the slices; return what the status has to say of a failure, and it."""
        adapter = seen.adapter
        if FINALIZER not in adapter.metadata.finalizers:
            await self._applier.apply(
                [_finalizers(adapter, [*adapter.metadata.finalizers, FINALIZER])], controller=NAME
            )
        is_wanted = bool(decision.endpoints) or bool(seen.slices)
        try:
            await self._applier.apply(plan_service(seen, is_wanted=is_wanted), controller=NAME)
        except AlreadyExists as err:
            message = f"Service {adapter.metadata.name} exists and belongs to somebody else"
            return Trouble(SERVICE_ERROR, message), err
        except Conflict:
            raise
        except KubeError as err:
            return Trouble(SERVICE_ERROR, str(err)), err
        zones = await self._zones.read(endpoint.pod.node_name for endpoint in decision.endpoints)
        actions = plan_slices(seen, decision.endpoints, zones)
        try:
            await self._applier.apply(actions, controller=NAME)
        except AlreadyExists:
            # The next pass takes other names.
            memory.taken |= await self._taken(adapter, actions)
            raise
        except Conflict:
            raise
        except KubeError as err:
            return Trouble(SLICE_ERROR, str(err)), err
        return None, None

    async def _taken(self, adapter: ModelAdapter, actions: Iterable[Action]) -> set[str]:
        """Return the names of planned slices that somebody else has."""
        planned = [
            ObjectKey(adapter.metadata.namespace, str(a.manifest["metadata"]["name"]))
            for a in actions
            if isinstance(a, Create)
        ]
        return {
            key.name for key in planned if (found := self._slices.get(key)) is not None and not is_ours(found, adapter)
        }

    async def _tell(self, seen: Observed, decision: Decision, trouble: Trouble | None) -> None:
        """Write the status if it changed, with Events for what changed."""
        adapter = self._own_adapters.current(seen.adapter)
        if decision.is_asking and trouble is None:
            return
        status = next_status(seen, decision, trouble, self._clock.now())
        difference = _difference(adapter.status, status)
        if not difference:
            return
        why = f"{status.phase}: {status.ready_replicas} of {status.desired_replicas} pods are ready"
        version = adapter.metadata.resource_version
        written = PatchStatus(ModelAdapter, adapter.key, difference, why, resource_version=version)
        events = transitions(adapter, adapter.status, status)
        if decision.fallback:
            events.append(Emit(adapter, POLICY_FALLBACK, decision.fallback))
        await self._applier.apply([written, *events], controller=NAME)

    def _again_s(self, adapter: ModelAdapter, decision: Decision) -> float | None:
        found = [] if decision.again_s is None else [decision.again_s]
        if adapter.spec.credentials_secret_ref is not None:
            found.append(FRESH_S if decision.revision is not None else RETRY_S)
        return min(found, default=None)

    async def _read_secret(self, adapter: ModelAdapter) -> Credentials:
        reference = adapter.spec.credentials_secret_ref
        if reference is None or not reference.name:
            return NONE
        return await self._secrets.read(adapter.metadata.namespace, reference.name)

    # Removal

    async def _remove(self, adapter: ModelAdapter, secret: Credentials) -> Result | None:
        """Take the slices away, unload everywhere, and let the adapter go."""
        if FINALIZER not in adapter.metadata.finalizers:
            return None
        memory = self._memories.of(adapter)
        self._engines.withdraw(adapter.uid)
        seen = self._observe(adapter, memory, secret)
        decision = plan(seen, self._clock.now())
        self._remember(adapter, seen, decision)
        self._hungry.discard(adapter.key)
        why = "the adapter is deleted"
        deletions: list[Action] = [Delete(EndpointSlice, s.key, s.uid, why, owner=adapter) for s in seen.slices]
        await self._applier.apply(deletions, controller=NAME)
        for request in decision.requests:
            self._engines.submit(adapter.key, adapter.uid, request)
        if not decision.unloaded:
            return Result(decision.again_s)
        actions: list[Action] = []
        if decision.leftovers:
            pods = "; ".join(decision.leftovers)
            actions.append(Emit(adapter, UNLOAD_INCOMPLETE, f"not unloaded from {pods}", "Warning"))
        rest = [name for name in adapter.metadata.finalizers if name != FINALIZER]
        await self._applier.apply([*actions, _finalizers(adapter, rest)], controller=NAME)
        return None

    # What wakes an adapter

    def _is_news(self, old: ModelAdapter, new: ModelAdapter) -> bool:
        return not self._own_adapters.is_own(new)

    def _on_adapter(self, event: EventType, old: ModelAdapter | None, new: ModelAdapter | None) -> None:
        if new is None:
            if old is not None:
                self._selection.drop_adapter(old.key)
                self._hungry.discard(old.key)
                self._engines.withdraw(old.uid)
                for uid in self._memories.drop(old.uid):
                    self._room_made(uid)
                    self._unfollow(uid)
            return
        if self._is_leading and (old is None or self._is_others(old, new)):
            self._memories.begin(new)
        if old is not None and old.metadata.generation == new.metadata.generation:
            return
        before = self._selection.group_of(new.key)
        group = self._selection.put_adapter(new)
        if before is not group:
            for uid in list(before.members):
                self._unfollow(uid)
            if len(group.adapters) == 1:
                for pod in list(group.members.values()):
                    self._engines.follow(pod)
        # A pod with a record is asked even when the selector leaves it.
        for record in new.status.pods:
            if (known := self._selection.pod(Uid(record.uid))) is not None:
                self._engines.follow(known)

    def _is_others(self, old: ModelAdapter, new: ModelAdapter) -> bool:
        """Say whether somebody else, such as the process that led before, wrote records."""
        return old.status.pods != new.status.pods and self._own_adapters.is_newer(new)

    def _on_pod(self, event: EventType, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                groups = self._selection.drop_pod(old.uid)
                self._engines.forget(old.uid)
                self._unplanned.pop(old.uid, None)
                self._wake(old.uid, groups)
            return
        facts = read_pod(new)
        before = self._selection.pod(facts.uid)
        if before == facts:
            return
        groups = self._selection.put_pod(facts)
        if any(facts.uid in group.members for group in groups) or self._memories.holders(facts.uid):
            self._engines.follow(facts)
        else:
            self._engines.forget(facts.uid)
        was_candidate = before is not None and before.are_containers_ready and before.labels == facts.labels
        self._wake(facts.uid, groups, is_arrival=facts.are_containers_ready and not was_candidate)
        self._gates.wake(facts.uid)

    def _room_made(self, uid: Uid) -> None:
        """Let adapters that look for a pod consider one that is not full any more."""
        pod = self._selection.pod(uid)
        if pod is None or pod.capacity is None:
            return
        for group in self._selection.groups_of(pod):
            for key in self._hungry & group.adapters:
                self._controller.enqueue(key)

    def _unfollow(self, uid: Uid) -> None:
        """Ask a pod no more when it concerns no adapter."""
        pod = self._selection.pod(uid)
        if pod is None or (not self._selection.groups_of(pod) and not self._memories.holders(uid)):
            self._engines.forget(uid)

    def _wake(self, uid: Uid, groups: Iterable[Group], *, is_arrival: bool = False) -> None:
        """Let the adapters that a change of a pod concerns be looked at: now, or when they count their candidates.

        One that may take adapters from now on concerns those that go everywhere, those that look for a pod, and, with
        the first pods of a newer generation, all.
        """
        for key in self._memories.holders(uid):
            self._controller.enqueue(key)
        for group in groups:
            self._recount_later(group)
            pod = group.members.get(uid)
            if pod is None or not is_arrival:
                continue
            ranks = group.survey.ranks
            is_newer = ranks.get(uid) == 0 and any(ranks.values())
            concerned = group.adapters if is_newer else group.everywhere | (self._hungry & group.adapters)
            if pod.has_gate and self._is_leading:
                self._unplanned.setdefault(uid, set()).update(concerned)
            for key in concerned:
                self._controller.enqueue(key)

    def _recount_later(self, group: Group) -> None:
        if id(group) in self._recounts:
            return

        def recount() -> None:
            del self._recounts[id(group)]
            for key in group.adapters:
                self._controller.enqueue(key)

        self._recounts[id(group)] = asyncio.get_running_loop().call_later(COUNTED_S, recount)

    def listed(self, pod: Uid, names: Iterable[str]) -> None:
        facts = self._selection.pod(pod)
        if facts is None:
            return
        for name in names:
            key = ObjectKey(facts.key.namespace, name)
            if self._adapters.get(key) is not None:
                self._wake_soon(key)

    def answered(self, pod: Uid) -> None:
        facts = self._selection.pod(pod)
        if facts is not None:
            self._wake(pod, self._selection.groups_of(facts), is_arrival=True)
            self._gates.wake(pod)

    def ended(self, adapter: ObjectKey) -> None:
        self._wake_soon(adapter)

    def _wake_soon(self, key: ObjectKey) -> None:
        if key in self._soon:
            return

        def wake() -> None:
            del self._soon[key]
            self._controller.enqueue(key)

        self._soon[key] = asyncio.get_running_loop().call_later(GATHER_S, wake)


def _owner_values(piece: EndpointSlice) -> list[str]:
    controller = piece.metadata.controller
    return [controller.uid] if controller is not None and controller.kind == ModelAdapter.gvk.kind else []


def _whose(obj: Service | EndpointSlice) -> list[ObjectKey]:
    """Return the adapter of a Service or slice, by its owner or its label: either may have been taken away."""
    names = {obj.metadata.labels.get(ADAPTER_NAME, "")}
    controller = obj.metadata.controller
    if controller is not None and controller.kind == ModelAdapter.gvk.kind:
        names.add(controller.name)
    return [ObjectKey(obj.metadata.namespace, name) for name in names if name]


def _finalizers(adapter: ModelAdapter, names: list[str]) -> Patch:
    is_added = FINALIZER in names
    return Patch(
        ModelAdapter,
        adapter.key,
        {"metadata": {"finalizers": names}},
        "engines shall unload it before it goes" if is_added else "it is unloaded",
        resource_version=adapter.metadata.resource_version,
    )


def _difference(old: ModelAdapterStatus, new: ModelAdapterStatus) -> dict[str, object]:
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return {name: after.get(name) for name in sorted({*before, *after}) if before.get(name) != after.get(name)}


def _build(setup: Setup) -> Sequence[Controller]:
    return ModelAdapterReconciler(setup).controllers()


_GROUP = ModelAdapter.gvk.group
MODELADAPTER = Registration(
    NAME,
    kinds=(ModelAdapter,),
    watches="ModelAdapters, their Services and EndpointSlices, pods, and what the engines in them have loaded",
    permissions=(
        Permission(_GROUP, ("modeladapters",), ("list", "watch", "patch")),
        Permission(_GROUP, ("modeladapters/status",), ("patch",)),
        # Owner references with blockOwnerDeletion need it where OwnerReferencesPermissionEnforcement is on.
        Permission(_GROUP, ("modeladapters/finalizers",), ("update",)),
        Permission("", ("pods",), ("list", "watch")),
        Permission("", ("pods/status",), ("patch",)),
        # One Service is read by name when it cannot be created: is it the adapter's?
        Permission("", ("services",), ("get", "list", "watch", "create", "patch")),
        Permission("discovery.k8s.io", ("endpointslices",), ("get", "list", "watch", "create", "patch", "delete")),
        Permission("", ("secrets", "nodes"), ("get",)),
    ),
    build=_build,
)
