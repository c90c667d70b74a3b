"""Ask a cluster before installing: is it new enough, does somebody else work on the kinds, what would change."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pybrix.base.errors import UsageError
from pybrix.install.aibrix import Conflict, find_conflicts
from pybrix.install.difference import describe, difference
from pybrix.kube.errors import Forbidden, KubeError, NotFound

OLDEST_MINOR = 30
FIELD_MANAGER = "kubectl"
"""Whoever applies with `kubectl apply --server-side` has this name."""
GUIDE = "docs/guides/migrate-from-aibrix.md"


class RawClient(Protocol):
    """Objects of any kind as plain data. Every method raises `kube.errors.KubeError` subclasses."""

    async def server_version(self) -> str: ...

    async def get_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the object that has the kind, namespace and name of this one."""
        ...

    async def list_raw(self, api_version: str, kind: str) -> Sequence[dict[str, Any]]:
        """List the objects of all namespaces."""
        ...

    async def apply_raw(self, data: Mapping[str, Any], *, field_manager: str, is_dry_run: bool) -> dict[str, Any]:
        """Apply on the server, taking fields over from others, and return what becomes of the object."""
        ...


class AibrixRunning(UsageError):
    """AIBrix's own controllers work on the cluster."""

    def __init__(self, conflicts: Iterable[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        lines = "".join(f"\n  {each.what}: {each.why}\n      {each.remedy}" for each in self.conflicts)
        super().__init__(f"AIBrix works on the same objects, and both would undo each other's work:{lines}", GUIDE)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check could not see, for lack of rights; everything else was in order."""

    unseen: tuple[str, ...] = ()


async def check_cluster(client: RawClient, now: datetime) -> Checked:
    """Look whether pybrix can be installed.

    Raises:
        UsageError: the cluster is too old.
        AibrixRunning: AIBrix's controllers or webhooks are at work.
    """
    version = await client.server_version()
    match = re.match(r"v?1\.(\d+)", version)
    if match is not None and int(match[1]) < OLDEST_MINOR:
        raise UsageError(
            f"the cluster runs Kubernetes {version}", f"pybrix needs 1.{OLDEST_MINOR} (ValidatingAdmissionPolicy)"
        )
    unseen: list[str] = []

    async def every(api_version: str, kind: str) -> Sequence[dict[str, Any]]:
        try:
            return await client.list_raw(api_version, kind)
        except Forbidden:
            unseen.append(f"{kind}s")
        except NotFound:
            # A server without the kind has none of them.
            pass
        return []

    admission = "admissionregistration.k8s.io/v1"
    conflicts = find_conflicts(
        await every("apps/v1", "Deployment"),
        await every("coordination.k8s.io/v1", "Lease"),
        [
            *await every(admission, "MutatingWebhookConfiguration"),
            *await every(admission, "ValidatingWebhookConfiguration"),
        ],
        now,
    )
    if conflicts:
        raise AibrixRunning(conflicts)
    return Checked(tuple(unseen))


async def changes(
    client: RawClient, documents: Iterable[Mapping[str, Any]], to_text: Callable[[dict[str, Any]], str]
) -> AsyncIterator[str]:
    """Yield a unified diff for each object that applying the documents would create or change.

    Raises:
        UsageError: the server refuses a document.
    """
    for document in documents:
        try:
            live = await client.get_raw(document)
        except NotFound:
            live = None
        except KubeError as err:
            raise UsageError(f"{describe(document)}: {err}") from err
        try:
            merged = await client.apply_raw(document, field_manager=FIELD_MANAGER, is_dry_run=True)
        except NotFound:
            # Its namespace does not exist yet: nothing that the server could merge with.
            merged = dict(document)
        except KubeError as err:
            raise UsageError(f"{describe(document)}: {err}") from err
        if text := difference(live, merged, to_text):
            yield text
