"""Make a cache what its blueprint says, publish its members, and tell how it is: the shell that both kinds share.

A pass reads what is known, lets the kind draw a blueprint of it (pure), corrects the children, publishes, and writes
the record's copy and the status. The copy in a ConfigMap lets anybody who may read it see the membership, and gives a
metadata server that lost its keys the same slots again whoever leads by then.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog

from pybrix.api.core import ConfigMap, Pod, Secret
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.markers import CustomResource
from pybrix.api.meta import Object
from pybrix.base.clock import format_rfc3339, parse_rfc3339
from pybrix.controllers.cachecluster.blueprint import (
    KIND_LABEL,
    NAME_LABEL,
    Blueprint,
    ChildKey,
    Destinations,
    SecretUse,
    Seen,
)
from pybrix.controllers.cachecluster.children import child_key, cleanup, is_controlled, plan_children
from pybrix.controllers.cachecluster.conditions import Pass, count
from pybrix.controllers.cachecluster.members import has_labels, members_of, plan_members
from pybrix.controllers.cachecluster.record import (
    read_destinations,
    read_record,
    record_name,
    render_record,
)
from pybrix.controllers.cachecluster.stuck import plan_stuck
from pybrix.controllers.credentials import Credentials
from pybrix.controllers.credentialsreader import CredentialsReader
from pybrix.controllers.membership.errors import AuthenticationFailed, StoreError, TlsFailed
from pybrix.controllers.membership.etcd import EtcdStore
from pybrix.controllers.membership.outcome import Outcome, Wanted
from pybrix.controllers.membership.publication import Publisher
from pybrix.controllers.membership.records import Record
from pybrix.controllers.membership.servers import Connections, Opener, open_store
from pybrix.controllers.membership.store import Server
from pybrix.controllers.registration import Setup
from pybrix.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from pybrix.runtime.actions import Action, Delete, Emit, Patch
from pybrix.runtime.controller import Controller, For, Result, Watches
from pybrix.runtime.ownview import OwnView

FINALIZER = "kvcache.pybrix.ai/membership"
FIRST_RETRY_S = 0.5
LEFT_BEHIND = "MembershipLeftBehind"
BY_OWNER = "cachecluster-owner"
BY_CACHE = "cachecluster-cache"

C = TypeVar("C", bound=CustomResource)
_log = structlog.get_logger()


class CacheKind(Protocol[C]):
    """What a kind of cache says of itself. All of it is pure."""

    @property
    def cls(self) -> type[C]: ...

    @property
    def name(self) -> str:
        """Return the name of the controller."""
        ...

    @property
    def children(self) -> tuple[type[Object], ...]:
        """Return the kinds of what is made of it, but for Secrets."""
        ...

    def secrets_of(self, obj: C) -> Sequence[SecretUse]:
        """Return the Secrets that are read for an object."""
        ...

    def labels_of(self, obj: C) -> Mapping[str, str]:
        """Return the labels by which the pods of an object are found."""
        ...

    def keys_of_labels(self, labels: Mapping[str, str]) -> Iterable[str]:
        """Return the names of the objects that a pod with these labels belongs to."""
        ...

    def destination_of(self, obj: C) -> Any:
        """Return the part of an object that says where its membership goes, to a server that was brought."""
        ...

    def with_destination(self, obj: C, destination: Any) -> C:
        """Return an object whose membership goes elsewhere.

        Raises:
            msgspec.ValidationError: it is no destination.
        """
        ...

    def blueprint(self, obj: C, seen: Seen) -> Blueprint: ...

    def status(self, obj: C, done: Pass, now: str) -> list[Action]:
        """Return the status write and the Events that a pass calls for."""
        ...


class CacheReconciler(Generic[C]):
    """The controller of one kind of cache."""

    def __init__(self, setup: Setup, kind: CacheKind[C], opener: Opener = open_store) -> None:
        manager = setup.manager
        self._kind = kind
        self._config = setup.config.kv_cache
        self._clock = setup.clock
        self._client = manager.client
        self._applier = manager.applier
        self._objects = manager.informer(kind.cls)
        self._pods = manager.informer(Pod)
        self._pods.add_index(f"{BY_CACHE}-{kind.name}", self._cache_of_pod)
        self._children = {cls.gvk.kind: self._informer(setup, cls) for cls in kind.children}
        self._own_objects = OwnView(self._objects, manager.applier, setup.clock)
        self._own_children = {name: OwnView(i, manager.applier, setup.clock) for name, i in self._children.items()}
        self._secrets = CredentialsReader(manager.client, setup.clock)
        self._connections = Connections(opener)
        self._publisher = Publisher(self._connections, setup.clock)
        self._failures: dict[Uid, tuple[int, float, Wanted, Outcome]] = {}
        """Of caches whose metadata server failed: how often, when it is tried again, what was to be published."""
        self._reached: dict[Uid, dict[str, Server]] = {}
        """How places were reached last: a Secret may be deleted together with the object that names it."""
        self._leaving: dict[Uid, dict[str, float]] = {}
        """Since when places are to be left that the spec names no more."""
        self._tidy: dict[Uid, int] = {}
        """Of caches without Secrets that they need no more: the generation that this was seen of."""
        self._protected: dict[Uid, frozenset[Uid]] = {}
        """Of caches with an etcd of their own: the pods of it that were seen to ask for the password."""
        self._known: tuple[dict[Uid, Any], ...] = (
            self._failures,
            self._reached,
            self._leaving,
            self._tidy,
            self._protected,
        )
        self.controller = Controller(
            kind.name,
            self.reconcile,
            sources=[
                For(self._objects, when=lambda _, new: not self._own_objects.is_own(new)),
                Watches(self._pods, self._keys_of_pod, when=_matters),
                *(
                    Watches(informer, self._keys_of_child, when=self._is_news(name))
                    for name, informer in self._children.items()
                ),
            ],
            concurrency=setup.concurrency(kind.name),
        )
        manager.add_loop(f"{kind.name}-connections", self._keep_connections)

    def _informer(self, setup: Setup, cls: type[Object]) -> Any:
        # Of ConfigMaps only our own: there may be large ones that concern nobody here.
        selector = KIND_LABEL if cls is ConfigMap else ""
        informer = setup.manager.informer(cls, label_selector=selector)
        informer.add_index(BY_OWNER, _controller_uid)
        return informer

    async def _keep_connections(self) -> None:
        """Close the connections when this process ceases to lead; another one keeps the leases from then on."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._connections.aclose()
            for known in self._known:
                known.clear()

    # One pass

    async def reconcile(self, key: ObjectKey) -> Result | None:
        obj = self._objects.get(key)
        if obj is None:
            return None
        secrets_read = await self._read_secrets(obj)
        obj = self._own_objects.get(key)
        if obj is None:
            return None
        seen = self._observe(obj, secrets_read)
        blueprint = self._kind.blueprint(obj, seen)
        if obj.metadata.is_terminating:
            return await self._remove(obj, seen, blueprint)
        if FINALIZER not in obj.metadata.finalizers:
            finalizers = [*obj.metadata.finalizers, FINALIZER]
            await self._applier.apply([_finalizers(obj, finalizers)], controller=self._kind.name)
            obj = self._own_objects.current(obj)
        done, error = await self._make(obj, seen, blueprint)
        if blueprint.server is not None and blueprint.keys is not None and not blueprint.invalid:
            membership = plan_members(
                seen.pods,
                blueprint.members,
                seen.record,
                min_ready_s=self._config.member_min_ready_s,
                now=self._clock.now(),
            )
            wanted = replace(self._wanted(obj, seen, blueprint), members=membership.members)
            outcome = await self._publish(obj, wanted, seen, blueprint)
            done = replace(done, outcome=outcome, membership=membership)
        else:
            self._failures.pop(obj.uid, None)
        # What was made in this pass is part of what the status tells.
        done = replace(done, seen=self._observe(obj, secrets_read))
        if not blueprint.invalid:
            stuck = plan_stuck(obj, done.seen.children.get(blueprint.workload), done.seen.pods)
            await self._applier.apply(stuck, controller=self._kind.name)
        await self._tidy_up(obj, done)
        obj = self._own_objects.current(obj)
        now = format_rfc3339(self._clock.now())
        await self._applier.apply(self._kind.status(obj, done, now), controller=self._kind.name)
        if error is not None:
            raise error
        return Result(self._again_s(obj, done))

    def _observe(self, obj: C, secrets_read: Mapping[str, Credentials]) -> Seen:
        labels = self._kind.labels_of(obj)
        pods = [
            pod for pod in self._pods.by_index(f"{BY_CACHE}-{self._kind.name}", str(obj.key)) if has_labels(pod, labels)
        ]
        children: dict[ChildKey, Object] = {}
        for name, view in self._own_children.items():
            informer = self._children[name]
            for child in view.of_controller(informer.by_index(BY_OWNER, obj.uid), obj.uid):
                children[name, child.metadata.name] = child
        copied = children.pop((ConfigMap.gvk.kind, record_name(obj)), None)
        return Seen(
            pods=tuple(sorted(pods, key=lambda pod: pod.metadata.name)),
            children=children,
            secrets=secrets_read,
            record=read_record(copied),
            destinations=read_destinations(copied),
            password=secrets.token_urlsafe(24),
        )

    async def _make(self, obj: C, seen: Seen, blueprint: Blueprint) -> tuple[Pass, KubeError | None]:
        """Correct the children; return what came of it, and the failure that has to be tried again."""
        done = Pass(seen, blueprint)
        if blueprint.invalid:
            return done, None
        observed = dict(seen.children)
        for manifest in blueprint.children:
            # A name may belong to somebody else.
            name, key = child_key(manifest)[0], child_key(manifest)
            if key not in observed and name in self._own_children:
                other = self._own_children[name].get(ObjectKey(obj.metadata.namespace, key[1]))
                if other is not None:
                    observed[key] = other
        plan = plan_children(obj, blueprint.children, observed, blueprint.fixed)
        legacy: list[Action] = [
            Delete(Pod, pod.key, pod.uid, "this controller does without it", owner=obj)
            for pod in seen.pods
            if pod.uid in blueprint.legacy_pods and not pod.metadata.is_terminating
        ]
        done = replace(done, taken=plan.taken, is_waiting=plan.is_waiting)
        try:
            await self._applier.apply([*legacy, *plan.actions], controller=self._kind.name)
        except (Conflict, AlreadyExists):
            raise
        except KubeError as err:
            return replace(done, failure=str(err)), err
        finally:
            for manifest in blueprint.children:
                if manifest["kind"] == "Secret":
                    self._secrets.forget(obj.metadata.namespace, manifest["metadata"]["name"])
        return done, None

    async def _publish(self, obj: C, wanted: Wanted, seen: Seen, blueprint: Blueprint) -> Outcome:
        now_s = self._clock.monotonic_s()
        failed = self._failures.get(obj.uid)
        if failed is not None and now_s < failed[1] and failed[2].server == wanted.server:
            return failed[3]
        outcome = await self._protect(obj, blueprint, wanted, seen)
        noted = seen.destinations
        if blueprint.managed is None:
            noted = {**noted, wanted.place: self._kind.destination_of(obj)}

        async def note() -> None:
            # Before anything is there: whoever finds this looks there.
            await self._write_copy(obj, seen, seen.record, noted)

        if outcome is None:
            outcome = await self._publisher.publish(obj.uid, wanted, note)
        if outcome.error is None:
            await self._write_copy(obj, replace(seen, destinations=noted), outcome.record, noted)
            self._failures.pop(obj.uid, None)
            if blueprint.managed is None:
                self._reached.setdefault(obj.uid, {})[wanted.place] = wanted.server
        else:
            count = failed[0] + 1 if failed is not None else 0
            delay_s = min(FIRST_RETRY_S * 2**count, self._config.longest_retry_s)
            self._failures[obj.uid] = (count, self._clock.monotonic_s() + delay_s, wanted, outcome)
            _log.warning("membership not published", cache=str(obj.key), error=str(outcome.error), delay_s=delay_s)
            if isinstance(outcome.error, AuthenticationFailed | TlsFailed):
                # A new password or certificate may be in the Secret already.
                for use in self._kind.secrets_of(obj):
                    self._secrets.forget(obj.metadata.namespace, use.name)
        return outcome

    def _wanted(self, obj: C, seen: Seen, blueprint: Blueprint) -> Wanted:
        assert blueprint.server is not None
        assert blueprint.keys is not None
        if self._publisher.last(obj.uid) is None and seen.record is not None:
            self._publisher.remember(obj.uid, seen.record)
        return Wanted(
            blueprint.server,
            blueprint.keys,
            owner=f"{obj.gvk.kind} {obj.key}",
            members=members_of(seen.pods, blueprint.members),
            ttl_s=self._config.member_ttl_s,
            slots=blueprint.slots,
            virtual_nodes=blueprint.virtual_nodes,
            least_version=seen.record.version if seen.record is not None else 0,
        )

    async def _protect(self, obj: C, blueprint: Blueprint, wanted: Wanted, seen: Seen) -> Outcome | None:
        """Make the etcd of a cache ask for its password; return the failure, if there is one.

        Asked once for every set of its pods: one that lost its data does not ask for one any more.
        """
        managed = blueprint.managed
        if managed is None or managed.kind != "etcd" or not managed.password:
            return None
        pods = frozenset(pod.uid for pod in seen.pods if has_labels(pod, managed.labels))
        if self._protected.get(obj.uid) == pods:
            return None
        try:
            async with aclosing(EtcdStore(replace(wanted.server, username="", password=""))) as store:
                await store.protect(managed.password)
        except AuthenticationFailed:
            # It asks for one already; whether it is this one, publishing shows.
            pass
        except StoreError as err:
            return Outcome(self._publisher.last(obj.uid), err)
        self._protected[obj.uid] = pods
        return None

    async def _write_copy(self, obj: C, seen: Seen, record: Record | None, destinations: Destinations) -> None:
        """Write the ConfigMap if it says something else."""
        if (record, destinations) == (seen.record, seen.destinations):
            return
        name, manifest = record_name(obj), render_record(obj, record, destinations)
        found = self._own_children[ConfigMap.gvk.kind].get(ObjectKey(obj.metadata.namespace, name))
        observed = {} if found is None else {(ConfigMap.gvk.kind, name): found}
        await self._applier.apply(plan_children(obj, [manifest], observed).actions, controller=self._kind.name)

    # What the spec pointed to before

    async def _tidy_up(self, obj: C, done: Pass) -> None:
        """Leave the places that the spec names no more, and delete Secrets that it needs no more.

        Once no member is left that was told of them, and all is well without them.
        """
        blueprint, counts = done.blueprint, count(done)
        is_published = done.outcome is not None and done.outcome.error is None
        if blueprint.invalid or not (is_published or not blueprint.kind):
            return
        if not counts.is_observed or counts.updated < counts.present:
            return
        for name in blueprint.unwanted_secrets if self._tidy.get(obj.uid) != obj.metadata.generation else ():
            await self._delete_secret(obj, name)
        self._tidy[obj.uid] = obj.metadata.generation
        is_elsewhere = is_published and blueprint.managed is None
        now = self._wanted(obj, done.seen, blueprint) if is_elsewhere else None
        leaving = self._leaving.setdefault(obj.uid, {})
        if now is not None:
            leaving.pop(now.place, None)
        left = dict(done.seen.destinations)
        events: list[Action] = []
        for place, destination in done.seen.destinations.items():
            if now is not None and place == now.place:
                continue
            failure = await self._leave(obj, done.seen, place, destination, now)
            first_s = leaving.setdefault(place, self._clock.monotonic_s())
            if failure and self._clock.monotonic_s() < first_s + self._config.deregister_deadline_s:
                continue
            if failure:
                events.append(_left_behind(obj, place, failure))
            del left[place], leaving[place]
            self._reached.get(obj.uid, {}).pop(place, None)
        await self._write_copy(obj, done.seen, done.seen.record, left)
        await self._applier.apply(events, controller=self._kind.name)

    async def _leave(self, obj: C, seen: Seen, place: str, destination: Any, now: Wanted | None) -> str:
        """Remove what is published at a place; return what went wrong, in a sentence.

        Args:
            now: where the membership goes now; None: to no brought server, or nowhere at all.
        """
        try:
            former = self._kind.with_destination(obj, destination)
        except msgspec.ValidationError as err:
            return f"ConfigMap {record_name(obj)}: {err}"
        blueprint = self._kind.blueprint(former, replace(seen, secrets=await self._read_secrets(former)))
        if blueprint.server is None:
            # Its Secret may be gone already.
            blueprint = replace(blueprint, server=self._reached.get(obj.uid, {}).get(place))
        if blueprint.server is None or blueprint.keys is None:
            return blueprint.problem.message if blueprint.problem is not None else blueprint.invalid
        before = self._wanted(obj, seen, blueprint)
        try:
            if now is None:
                await self._publisher.retract(before)
            else:
                await self._publisher.leave(obj.uid, before, now)
        except StoreError as err:
            _log.warning("membership not taken back", cache=str(obj.key), place=place, error=str(err))
            return str(err)
        return ""

    async def _delete_secret(self, obj: C, name: str) -> None:
        key = ObjectKey(obj.metadata.namespace, name)
        try:
            found = await self._client.get(Secret, key)
        except NotFound:
            return
        if is_controlled(found, obj):
            action = Delete(Secret, key, found.uid, "no metadata server needs it any more", owner=obj)
            await self._applier.apply([action], controller=self._kind.name)

    def _again_s(self, obj: C, done: Pass) -> float | None:
        if done.outcome is None:
            if done.blueprint.problem is not None:
                # Nothing is published; a Secret may appear.
                return FIRST_RETRY_S * 10
            return self._config.member_ttl_s / 3 if self._leaving.get(obj.uid) else None
        failed = self._failures.get(obj.uid)
        if failed is not None:
            return max(failed[1] - self._clock.monotonic_s(), 0.05)
        prolong_s = self._config.member_ttl_s / 3
        again_s = done.membership.again_s
        return prolong_s if again_s is None else min(max(again_s, 0.05), prolong_s)

    async def _read_secrets(self, obj: C) -> dict[str, Credentials]:
        found = {}
        for use in self._kind.secrets_of(obj):
            found[use.name] = await self._secrets.read(obj.metadata.namespace, use.name, use.field)
        return found

    # Removal

    async def _remove(self, obj: C, seen: Seen, blueprint: Blueprint) -> Result | None:
        """Deregister, end the cache servers, remove what they wrote themselves, and let the object go."""
        if FINALIZER not in obj.metadata.finalizers:
            return None
        places = dict(seen.destinations)
        if blueprint.managed is None and blueprint.server is not None and blueprint.keys is not None:
            place = self._wanted(obj, seen, blueprint).place
            if place in self._reached.get(obj.uid, {}):
                # Somebody may have deleted the note.
                places[place] = self._kind.destination_of(obj)
        # First of all: nobody shall look for members that are about to end.
        failures = {
            place: failure
            for place, destination in places.items()
            if (failure := await self._leave(obj, seen, place, destination, None))
        }
        why = f"the {obj.gvk.kind} is deleted"
        await self._applier.apply(cleanup(obj, seen.children.values(), why), controller=self._kind.name)
        deadline = parse_rfc3339(str(obj.metadata.deletion_timestamp)) + timedelta(
            seconds=self._config.deregister_deadline_s
        )
        left_s = (deadline - self._clock.now()).total_seconds()
        if places and seen.pods and left_s > 0:
            # Their ends bring the next pass, which removes what they wrote meanwhile.
            return Result(left_s)
        if failures and left_s > 0:
            return Result(min(FIRST_RETRY_S * 4, max(left_s, 0.1)))
        await self._publisher.forget(obj.uid)
        for known in self._known:
            known.pop(obj.uid, None)
        rest = [name for name in obj.metadata.finalizers if name != FINALIZER]
        actions: list[Action] = [_left_behind(obj, place, failure) for place, failure in failures.items()]
        actions.append(_finalizers(obj, rest))
        await self._applier.apply(actions, controller=self._kind.name)
        return None

    # What wakes a cache

    def _cache_of_pod(self, pod: Pod) -> list[str]:
        names = self._kind.keys_of_labels(pod.metadata.labels)
        return [str(ObjectKey(pod.metadata.namespace, name)) for name in names]

    def _keys_of_pod(self, pod: Pod) -> list[ObjectKey]:
        names = self._kind.keys_of_labels(pod.metadata.labels)
        return [ObjectKey(pod.metadata.namespace, name) for name in names]

    def _keys_of_child(self, child: Object) -> list[ObjectKey]:
        controller = child.metadata.controller
        names = {controller.name} if controller is not None and controller.kind == self._kind.cls.gvk.kind else set()
        if child.metadata.labels.get(KIND_LABEL) == self._kind.cls.gvk.plural:
            # The reference may have been taken away.
            names.add(child.metadata.labels.get(NAME_LABEL, ""))
        return [ObjectKey(child.metadata.namespace, name) for name in names if name]

    def _is_news(self, kind: str) -> Any:
        return lambda _, new: not self._own_children[kind].is_own(new)


def _matters(old: Pod, new: Pod) -> bool:
    """Say whether a pod's change may concern a cache: readiness, address, phase, end, labels and annotations."""

    def facts(pod: Pod) -> tuple[Any, ...]:
        meta = pod.metadata
        return (
            pod.is_ready,
            pod.status.pod_ip,
            pod.status.phase,
            meta.is_terminating,
            meta.labels,
            meta.annotations,
        )

    return facts(old) != facts(new)


def _controller_uid(child: Object) -> list[str]:
    controller = child.metadata.controller
    return [controller.uid] if controller is not None else []


def _left_behind(obj: CustomResource, place: str, failure: str) -> Emit:
    return Emit(obj, LEFT_BEHIND, f"{place} and what begins alike may still be there: {failure}", "Warning")


def _finalizers(obj: CustomResource, names: list[str]) -> Patch:
    why = "its membership shall be taken back before it goes" if FINALIZER in names else "nothing of it is published"
    return Patch(
        type(obj), obj.key, {"metadata": {"finalizers": names}}, why, resource_version=obj.metadata.resource_version
    )
