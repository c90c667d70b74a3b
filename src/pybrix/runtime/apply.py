"""Carry out the actions of a plan: the one place that knows conflicts, missing objects and owner references.

    await applier.apply(plan.actions)

Actions are taken in order. When one fails, the rest is left out except `PatchStatus`, because a status tells what was
observed and that holds either way; then the first failure is raised and the controller plans anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.api.scheme import kind_class
from pybrix.kube.errors import AlreadyExists, Conflict, KubeError, NotFound, StatusError, TooManyRequests
from pybrix.kube.interface import Client
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, PatchStatus
from pybrix.runtime.events import EventRecorder
from pybrix.runtime.expectations import Expectations

_log = structlog.get_logger()

_Versions = dict[tuple[type[Object], ObjectKey, str], str]
"""The version that an object has after our own writes, by class, key and the version that was observed."""


def owned_manifest(manifest: Mapping[str, Any], owner: Object | None) -> dict[str, Any]:
    """Return a manifest with the owner as its controller, in the owner's namespace if it names none."""
    if owner is None:
        return dict(manifest)
    metadata = dict(manifest.get("metadata") or {})
    reference = msgspec.to_builtins(owner.owner_reference())
    others = [ref for ref in metadata.get("ownerReferences") or [] if ref.get("uid") != owner.uid]
    metadata["ownerReferences"] = [*others, reference]
    if not metadata.get("namespace") and owner.metadata.namespace:
        metadata["namespace"] = owner.metadata.namespace
    return {**manifest, "metadata": metadata}


class WriteObserver(Protocol):
    """Who hears of writes that succeeded."""

    def wrote(self, obj: Object) -> None:
        """Take note of an object as the server answered it."""
        ...

    def deleted(self, cls: type[Object], uid: Uid) -> None: ...


class Applier:
    """The executor of `runtime.actions`. `controller` names the caller in logs."""

    def __init__(self, client: Client, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations: dict[tuple[str, str], Expectations[Any]] = {}
        self._observers: list[WriteObserver] = []

    def tell_writes(self, observer: WriteObserver) -> None:
        """Tell an observer of every object of a typed kind that is written from now on."""
        self._observers.append(observer)

    def note_writes(self, expectations: Expectations[Any]) -> None:
        """Tell these expectations of every child of their kind that is created or deleted for an owner."""
        gvk = expectations.cls.gvk
        self._expectations[gvk.api_version, gvk.kind] = expectations

    async def apply(self, actions: Iterable[Action], *, controller: str = "") -> None:
        """Apply actions in order; each is logged with its why.

        Raises:
            Conflict: something is newer than what the plan was made from; plan again.
            KubeError: the API server refused an action or gave no answer.
        """
        log = _log.bind(controller=controller) if controller else _log
        versions: _Versions = {}
        failed: KubeError | None = None
        for action in actions:
            if failed is not None and not isinstance(action, PatchStatus):
                log.debug("action left out after a failure", **_describe(action))
                continue
            try:
                await self._apply_one(action, versions, log)
            except KubeError as err:
                log.info("action failed", **_describe(action), error=str(err))
                failed = failed or err
        if failed is not None:
            raise failed

    async def _apply_one(self, action: Action, versions: _Versions, log: Any) -> None:
        match action:
            case Create():
                await self._create(action, log)
            case Patch():
                await self._patch(action, action.patch, action.subresource, versions, log)
            case PatchStatus():
                await self._patch(action, {"status": action.status} if action.status else {}, "status", versions, log)
            case Delete():
                await self._delete(action, log)
            case Emit():
                await self._recorder.record(action.about, action.reason, action.why, action.type)

    async def _create(self, action: Create, log: Any) -> None:
        manifest = owned_manifest(action.manifest, action.owner)
        try:
            created = await self._client.create_raw(manifest)
        except AlreadyExists:
            # A stale cache makes a plan create a child of a fixed name twice: the first one is what was wanted.
            found = await self._own_child(manifest, action.owner) if action.owner is not None else None
            if action.owner is None or found is None:
                raise
            log.info("created already", **_describe(action))
            # The cache may lag behind it as behind any other creation.
            self._tell(found)
            if (expectations := self._expectations_of(manifest)) is not None:
                expectations.created(action.owner.uid, found.uid)
            return
        except (Conflict, TooManyRequests):
            raise
        except StatusError as err:
            if action.owner is not None:
                message = f"Error creating {manifest.get('kind')}: {err}"
                await self._recorder.record(action.owner, "FailedCreate", message, "Warning")
            raise
        metadata = created.get("metadata") or {}
        log.info("created", **_describe(action) | {"key": _key_text(metadata)})
        cls = kind_class(str(manifest.get("apiVersion")), str(manifest.get("kind"))) if self._observers else None
        if cls is not None:
            self._tell(cls.from_dict(created))
        if action.owner is not None and (expectations := self._expectations_of(manifest)) is not None:
            expectations.created(action.owner.uid, Uid(metadata.get("uid", "")))

    async def _own_child(self, manifest: Mapping[str, Any], owner: Object) -> Object | None:
        """Return the object of that name if the same owner controls it (not only one of its name) and it stays."""
        metadata = manifest["metadata"]
        key = ObjectKey(metadata.get("namespace", ""), metadata.get("name", ""))
        cls = kind_class(str(manifest.get("apiVersion")), str(manifest.get("kind")))
        if cls is None or not key.name:
            return None
        try:
            found = await self._client.get(cls, key)
        except NotFound:
            return None
        controller = found.metadata.controller
        is_own = controller is not None and controller.uid == owner.uid and not found.metadata.is_terminating
        return found if is_own else None

    async def _patch(
        self, action: Patch | PatchStatus, patch: Mapping[str, Any], subresource: str, versions: _Versions, log: Any
    ) -> None:
        if not patch:
            return
        # A plan may write one object twice; its second patch meets the version that its first one made.
        observed = (action.cls, action.key, action.resource_version)
        changed = await self._client.patch(
            action.cls,
            action.key,
            patch,
            subresource=subresource,
            resource_version=versions.get(observed, action.resource_version),
        )
        if action.resource_version:
            versions[observed] = changed.metadata.resource_version
        log.info("patched", **_describe(action))
        self._tell(changed)

    async def _delete(self, action: Delete, log: Any) -> None:
        try:
            await self._client.delete(
                action.cls,
                action.key,
                uid=action.uid,
                resource_version=action.resource_version,
                propagation=action.propagation,
            )
        except Conflict:
            if action.resource_version:
                raise
            # Another object has the name by now: the one of this UID is no more.
            log.info("deleted already", **_describe(action))
            return
        except NotFound:
            log.info("deleted already", **_describe(action))
        else:
            log.info("deleted", **_describe(action))
        for observer in self._observers:
            observer.deleted(action.cls, action.uid)
        gvk = action.cls.gvk
        expectations = self._expectations.get((gvk.api_version, gvk.kind))
        if action.owner is not None and expectations is not None:
            expectations.deleted(action.owner.uid, action.uid)

    def _tell(self, obj: Object) -> None:
        for observer in self._observers:
            observer.wrote(obj)

    def _expectations_of(self, manifest: Mapping[str, Any]) -> Expectations[Any] | None:
        return self._expectations.get((str(manifest.get("apiVersion")), str(manifest.get("kind"))))


def _key_text(metadata: Mapping[str, Any]) -> str:
    name = metadata.get("name") or f"{metadata.get('generateName', '')}*"
    return str(ObjectKey(str(metadata.get("namespace") or ""), str(name)))


def _describe(action: Action) -> dict[str, Any]:
    """Return what a log line says about an action."""
    verb = type(action).__name__
    match action:
        case Create():
            kind, key = str(action.manifest.get("kind")), _key_text(action.manifest.get("metadata") or {})
        case Emit():
            kind, key = action.about.gvk.kind, str(action.about.key)
        case Patch() | PatchStatus() | Delete():
            kind, key = action.cls.gvk.kind, str(action.key)
    return {"action": verb, "kind": kind, "key": key, "why": action.why}
