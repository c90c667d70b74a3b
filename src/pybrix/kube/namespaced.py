"""A client that sees only some namespaces, so that readers of "all namespaces" need no right beyond these.

client = NamespacedClient(HttpClient(access), ["team-a", "team-b"])
await client.list(Pod)                # of both; one request each
client.watch(Pod, resource_version=…) # one watch each, merged

Kinds without a namespace, and everything that names one, pass through.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.kube.errors import Gone
from pybrix.kube.interface import Client, ObjectList, PatchType, WatchEvent

T = TypeVar("T", bound=Object)

REOPEN_PAUSE_S = 0.1


class NamespacedClient:
    """`kube.interface.Client` for which "all namespaces" means the given ones; at least one."""

    def __init__(self, client: Client, namespaces: Sequence[str]) -> None:
        if not namespaces:
            raise ValueError("no namespace is given")
        self._client = client
        self._namespaces = tuple(dict.fromkeys(namespaces))

    async def get(self, cls: type[T], key: ObjectKey) -> T:
        return await self._client.get(cls, key)

    async def list(
        self, cls: type[T], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList[T]:
        """List; the version of several namespaces together is of use to `watch` only."""
        selectors = {"label_selector": label_selector, "field_selector": field_selector}
        asked = self._asked(cls, namespace)
        if len(asked) == 1:
            return await self._client.list(cls, asked[0], **selectors)
        items: list[T] = []
        versions = []
        for one in asked:
            found = await self._client.list(cls, one, **selectors)
            items += found.items
            versions.append(found.resource_version)
        return ObjectList(items, ",".join(versions))

    async def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Yield the changes of all namespaces.

        With several of them it goes on until one of the watches fails, and `resource_version` must come from `list`.
        """
        selectors = {"label_selector": label_selector, "field_selector": field_selector}
        asked = self._asked(cls, namespace)
        if len(asked) == 1:
            stream = self._client.watch(cls, asked[0], resource_version=resource_version, **selectors)
            async with aclosing(stream) as events:  # type: ignore[type-var]  # Clients return generators.
                async for event in events:
                    yield event
            return
        versions = resource_version.split(",")
        if len(versions) != len(asked):
            # A version of one namespace says nothing about what happened in the others.
            raise Gone(410, "Expired", f"{resource_version!r} is not the version of a list of {len(asked)} namespaces")
        changes: asyncio.Queue[WatchEvent[T] | BaseException] = asyncio.Queue()

        async def follow(one: str | None, version: str) -> None:
            try:
                while True:
                    stream = self._client.watch(cls, one, resource_version=version, **selectors)
                    async with aclosing(stream) as events:  # type: ignore[type-var]
                        async for event in events:
                            version = event.object.metadata.resource_version or version
                            changes.put_nowait(event)
                    # A server ends watches after some minutes; a pause in case that it ends them at once.
                    await asyncio.sleep(REOPEN_PAUSE_S)
            except Exception as err:  # noqa: BLE001
                # Whoever reads the merged stream gets the error as that of one watch.
                changes.put_nowait(err)

        followers = [asyncio.create_task(follow(one, version)) for one, version in zip(asked, versions, strict=True)]
        try:
            while True:
                change = await changes.get()
                if isinstance(change, BaseException):
                    raise change
                yield change
        finally:
            for task in followers:
                task.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        return await self._client.create(obj, field_manager=field_manager)

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
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

    def _asked(self, cls: type[Object], namespace: str | None) -> Sequence[str | None]:
        return self._namespaces if namespace is None and cls.gvk.is_namespaced else (namespace,)
