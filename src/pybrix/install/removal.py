"""Remove an installation so that nothing is left held: what has finalizers while controllers work, then all else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.meta import Object
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.install.difference import describe
from pybrix.install.names import PART_OF
from pybrix.kube.errors import NotFound

POLL_INTERVAL_S = 0.5
GUIDE = "docs/guides/install.md, When objects cannot be deleted"
ADAPTERS: tuple[type[Object], ...] = (ModelAdapter,)
HELD_OTHERS: tuple[type[Object], ...] = (RayClusterFleet, RayClusterReplicaSet, KVCache, KVCachePool)
"""Owners first: they would make again what they own. They are left alone while their definitions stay."""
_MAX_NAMED = 5


class RawClient(Protocol):
    """Objects of any kind as plain data. Every method raises `kube.errors.KubeError` subclasses."""

    async def get_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object that has the kind, namespace and name of this one."""
        ...

    async def list_raw(self, api_version: str, kind: str) -> Sequence[dict[str, Any]]:
        """List the objects of all namespaces."""
        ...

    async def delete_raw(self, data: Mapping[str, Any]) -> None:
        """Delete the object that has the kind, namespace and name of this one."""
        ...


async def list_all(client: RawClient, kinds: Iterable[type[Object]]) -> list[dict[str, Any]]:
    """Return every object of these kinds in the cluster; none of a kind that is not known."""
    found: list[dict[str, Any]] = []
    for cls in kinds:
        with suppress(NotFound):
            found += await client.list_raw(cls.gvk.api_version, cls.gvk.kind)
    return found


async def remove_held(client: RawClient, kinds: Sequence[type[Object]], clock: Clock, *, timeout_s: float) -> None:
    """Delete every object of kinds that have finalizers of ours, and wait until controllers have let go of them.

    Raises:
        UsageError: some are still there; nothing else was touched.
    """
    for obj in await list_all(client, kinds):
        await _delete(client, obj)
    until_s = clock.monotonic_s() + timeout_s
    while left := await list_all(client, kinds):
        if clock.monotonic_s() >= until_s:
            names = ", ".join(describe(each) for each in left[:_MAX_NAMED])
            more = f" and {len(left) - _MAX_NAMED} more" if len(left) > _MAX_NAMED else ""
            raise UsageError(
                f"after {timeout_s:g} s no controller has let go of {names}{more}; everything else is still there",
                f"do the controllers run? See {GUIDE}",
            )
        await asyncio.sleep(POLL_INTERVAL_S)


async def remove_documents(
    client: RawClient, documents: Iterable[Mapping[str, Any]], tell: Callable[[str], None]
) -> None:
    """Delete objects that are there, the last first, so that a namespace goes after what is in it.

    A namespace without the installation's label was somebody else's before, and stays.
    """
    for document in reversed(list(documents)):
        if document["kind"] == "Namespace" and not await _is_ours(client, document):
            continue
        if await _delete(client, document):
            tell(describe(document))


async def _is_ours(client: RawClient, obj: Mapping[str, Any]) -> bool:
    try:
        live = await client.get_raw(obj)
    except NotFound:
        return False
    labels: Mapping[str, Any] = live["metadata"].get("labels") or {}
    return bool(labels.get(PART_OF) == "pybrix")


async def _delete(client: RawClient, obj: Mapping[str, Any]) -> bool:
    """Delete an object; return whether it was there."""
    try:
        await client.delete_raw(obj)
    except NotFound:
        return False
    return True
