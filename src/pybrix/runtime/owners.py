"""Ask the API server, not the cache, before taking in what nobody owns."""

from __future__ import annotations

from pybrix.api.meta import Object
from pybrix.kube.errors import NotFound
from pybrix.kube.interface import Client
from pybrix.runtime.errors import Retry


async def confirm_owner(client: Client, owner: Object) -> None:
    """Return when the owner is there, is the one that was observed, and stays.

    A cache may lag behind the deletion of an owner whose dependents were orphaned on purpose: these are not to be
    taken in again.

    Raises:
        Retry: it is gone, another one, or on its way out; the cache will tell.
    """
    try:
        present = await client.get(type(owner), owner.key)
    except NotFound:
        raise Retry(1.0, f"{owner.kind} {owner.key} is gone") from None
    if present.uid != owner.uid or present.metadata.is_terminating:
        raise Retry(1.0, f"{owner.kind} {owner.key} is no longer the one observed")
