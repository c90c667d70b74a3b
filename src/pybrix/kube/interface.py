"""What the rest of pybrix asks of a Kubernetes API: one Protocol, whatever server is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object

T = TypeVar("T", bound=Object)


class PatchType(StrEnum):
    """Content types of the four patches."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class EventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One change. For BOOKMARK only `object.metadata.resource_version` means anything."""

    type: EventType
    object: T


@dataclass(frozen=True, slots=True)
class ObjectList(Generic[T]):
    """A consistent list and the version to watch from."""

    items: Sequence[T]
    resource_version: str


class Client(Protocol):
    """Typed access to one API server. Every method raises `kube.errors.KubeError` subclasses.

    A `namespace` of None means all namespaces. `subresource` is "" (the object itself), "status" or "scale".
    """

    async def get(self, cls: type[T], key: ObjectKey) -> T: ...

    async def list(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList[T]:
        """List everything, following `continue` tokens of a paged answer."""
        ...

    def watch(
        self,
        cls: type[T],
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent[T]]:
        """Yield changes after `resource_version`, bookmarks included, until the server ends the stream.

        Raises:
            Gone: the version is too old; list again.
        """
        ...

    async def create(self, obj: T, *, field_manager: str = "pybrix") -> T:
        """Create; `metadata.namespace` says where. Raises `AlreadyExists`."""
        ...

    async def create_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Create from a JSON-like object of any kind that the server knows, typed here or not."""
        ...

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
        """Patch. With `resource_version` (merge patches only) a newer object is a `Conflict`, never overwritten."""
        ...

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
        """Delete. With `uid`, another object of that name is a `Conflict`; with `resource_version`, a changed one."""
        ...

    async def aclose(self) -> None: ...
