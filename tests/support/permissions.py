"""What a controller really does at the API server, against what it says it may do.

    api = MemoryApi()
    client = RecordingClient(api)
    ... run the registration's controllers with a Manager over `client` (see `running_registration`) ...
    check_permissions(client.used, MODELADAPTER.permissions)

`check_permissions` fails on a request that is not permitted (least rights are enough) and on a permission that no
request needed (they are the least). `unused` names what the test at hand cannot reach, so that it stays visible.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import aiohttp

from pybrix.api.config import ControllersConfiguration
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.api.scheme import kind_class
from pybrix.base.clock import Clock
from pybrix.controllers.registration import Registration, Setup
from pybrix.controllers.registry import EVENTS
from pybrix.kube.interface import Client, ObjectList, PatchType, WatchEvent
from pybrix.kube.permissions import Permission
from pybrix.runtime.manager import Manager
from tests.support.clocks import LoopClock

T = TypeVar("T", bound=Object)


class Use(NamedTuple):
    """One right, as RBAC has it; the resource carries its subresource: `pods/status`."""

    verb: str
    group: str
    resource: str


class RecordingClient:
    """A `Client` that notes what it is asked for and passes it on."""

    def __init__(self, client: Client) -> None:
        self.used: set[Use] = set()
        self._client = client

    def _note(self, verb: str, cls: type[Object], subresource: str = "") -> None:
        gvk = cls.gvk
        self.used.add(Use(verb, gvk.group, f"{gvk.plural}/{subresource}" if subresource else gvk.plural))

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        self._note("get", cls)
        return await self._client.get(cls, key)

    async def list(
        self, cls: type[T], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList[T]:
        self._note("list", cls)
        return await self._client.list(cls, namespace, label_selector=label_selector, field_selector=field_selector)

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        self._note("watch", cls)
        stream = self._client.watch(
            cls,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
        )
        async with aclosing(stream) as events:  # type: ignore[type-var]  # Clients return generators.
            async for event in events:
                yield event

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        self._note("create", type(obj))
        return await self._client.create(obj, field_manager=field_manager)

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        cls = kind_class(str(data.get("apiVersion")), str(data.get("kind")))
        assert cls is not None, f"no type for {data.get('apiVersion')} {data.get('kind')}: add it to api/scheme.py"
        self._note("create", cls)
        return await self._client.create_raw(data)

    async def patch(
        self,
        cls: type[T],
        key: ObjectKey,
        patch: Mapping[str, Any] | Sequence[Any],
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        resource_version: str = "",
        field_manager: str = "pybrix",
        force: bool = False,
    ) -> T:
        self._note("patch", cls, subresource)
        if patch_type is PatchType.APPLY:
            # Applying may create, and RBAC asks for that right, too.
            self._note("create", cls, subresource)
        return await self._client.patch(
            cls,
            key,
            patch,
            patch_type=patch_type,
            subresource=subresource,
            resource_version=resource_version,
            field_manager=field_manager,
            force=force,
        )

    async def delete(
        self,
        cls: type[T],
        key: ObjectKey,
        *,
        uid: Uid | None = None,
        resource_version: str = "",
        propagation: str = "Background",
        grace_period_seconds: int | None = None,
    ) -> None:
        self._note("delete", cls)
        await self._client.delete(
            cls,
            key,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
            grace_period_seconds=grace_period_seconds,
        )

    async def aclose(self) -> None:
        await self._client.aclose()


def rights(permissions: Iterable[Permission]) -> set[Use]:
    """Return every single right that permissions give."""
    return {
        Use(verb, permission.group, resource)
        for permission in permissions
        for resource in permission.resources
        for verb in permission.verbs
    }


def check_permissions(used: Iterable[Use], declared: Iterable[Permission], *, unused: Iterable[Use] = ()) -> None:
    """Hold what was used against what is declared: nothing is missing, and nothing is there for nothing.

    Args:
        unused: declared rights that the test cannot make a controller use.
    """
    used, allowed, exempt = set(used), rights(declared), set(unused)
    assert sorted(used - allowed - rights([EVENTS])) == [], "used without permission"
    assert sorted(allowed - used - exempt) == [], "permitted and never used"
    assert sorted(exempt & used) == [], "said to be unused, and used"
    assert sorted(exempt - allowed) == [], "said to be unused, and not even declared"


@asynccontextmanager
async def running_registration(
    registration: Registration,
    client: Client,
    *,
    config: ControllersConfiguration | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Manager]:
    """Run the controllers of one registration, as `controllers.app` does, until the block ends."""
    clock, chance = clock or LoopClock(), random.Random(1)
    manager = Manager(client, component="test", clock=clock, chance=chance)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        setup = Setup(manager, config or ControllersConfiguration(), clock, chance, http)
        for controller in registration.build(setup):
            manager.add(controller)
        running = group.create_task(manager.run())
        try:
            yield manager
        finally:
            manager.stop()
            await running
