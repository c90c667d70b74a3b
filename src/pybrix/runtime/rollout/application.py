"""Carry out a rollout's step, and say what came of the revision that it creates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.kube.errors import AlreadyExists, Conflict, NotFound, StatusError
from pybrix.kube.interface import Client
from pybrix.runtime.actions import Action, Create
from pybrix.runtime.apply import Applier
from pybrix.runtime.rollout.progress import Outcome

IsSameTemplate = Callable[[Object, Any], bool]
"""Says whether an existing revision is of the template of a manifest."""


async def apply_rollout(
    applier: Applier,
    client: Client,
    actions: Sequence[Action],
    cls: type[Object],
    is_same_template: IsSameTemplate,
    *,
    controller: str,
) -> tuple[Outcome, StatusError | None]:
    """Carry out a plan; return what came of the revision it creates, and the error to back off for.

    Args:
        cls: kind of the revisions.

    Raises:
        Conflict: something is newer than what the plan was made from.
        KubeError: an action other than the creation failed.
    """
    create = next((a for a in actions if isinstance(a, Create)), None)
    if create is None:
        await applier.apply(actions, controller=controller)
        return Outcome(), None
    name = str(create.manifest["metadata"]["name"])
    try:
        await applier.apply(actions, controller=controller)
    except AlreadyExists:
        # The new collision count changes the owner, so the next pass comes by itself.
        return Outcome(is_collision=await _is_collision(client, create, cls, is_same_template)), None
    except Conflict:
        raise
    except StatusError as error:
        return Outcome(create_error=str(error)), error
    return Outcome(created=name), None


async def _is_collision(client: Client, create: Create, cls: type[Object], is_same_template: IsSameTemplate) -> bool:
    """Say whether the name of a new revision is taken by one that is not the owner's of this template.

    Raises:
        Conflict: it is the right one, on its way out; to be planned anew when it is gone.
    """
    metadata = create.manifest["metadata"]
    name = f"{cls.gvk.kind} {metadata['name']}"
    try:
        found = await client.get(cls, ObjectKey(metadata["namespace"], metadata["name"]))
    except NotFound:
        raise Conflict(409, "Conflict", f"{name} just went") from None
    holder = found.metadata.controller
    is_own = holder is not None and create.owner is not None and holder.uid == create.owner.uid
    if is_own and is_same_template(found, create.manifest["spec"]["template"]):
        raise Conflict(409, "Conflict", f"{name} is being deleted")
    return True
