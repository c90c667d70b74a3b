"""Which template is the present one and which the one before, kept as ControllerRevisions. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pybrix.api import names
from pybrix.api.apps import ControllerRevision, StatefulSet
from pybrix.base.hashing import template_hash
from pybrix.cluster.workloads.statefulset.state import Observed, history_limit
from pybrix.cluster.workloads.templates import comparable_template, is_same_template
from pybrix.runtime.actions import Action, Create, Delete, Patch


@dataclass(frozen=True, slots=True)
class Revision:
    """A pod template under the name by which pods tell it."""

    name: str
    template: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Revisions:
    """`update` is of the present template; `current` is what the pods had before, until all are updated."""

    current: Revision
    update: Revision
    actions: tuple[Action, ...] = ()
    """What brings the stored revisions in line."""


def resolve(seen: Observed) -> Revisions:
    """Find the revisions of a set among those stored, or make the present template one.

    A template that was there before becomes the newest again under a higher number, as a rollback does.
    """
    stateful_set = seen.stateful_set
    stored = sorted(seen.revisions.owned, key=lambda r: (r.revision, r.metadata.name))
    following = stored[-1].revision + 1 if stored else 1
    actions: list[Action] = []
    equal = [r for r in stored if is_same_template(template_of(r), stateful_set.spec.template)]
    if equal:
        update = Revision(equal[-1].metadata.name, stateful_set.spec.template)
        if equal[-1] is not stored[-1]:
            why = f"the template of revision {equal[-1].revision} is the present one again"
            version = equal[-1].metadata.resource_version
            patch = {"revision": following}
            actions.append(Patch(ControllerRevision, equal[-1].key, patch, why, resource_version=version))
    else:
        manifest = _render(stateful_set, following)
        update = Revision(manifest["metadata"]["name"], stateful_set.spec.template)
        actions.append(Create(manifest, f"no revision of the present template exists: {following}", owner=stateful_set))
    before = next((r for r in stored if r.metadata.name == stateful_set.status.current_revision), None)
    current = Revision(before.metadata.name, template_of(before)) if before is not None else update
    in_use = {update.name, current.name}
    in_use |= {pod.metadata.labels.get(names.CONTROLLER_REVISION_HASH, "") for pod in seen.claims.owned}
    return Revisions(current, update, (*actions, *_forget(seen, stored, in_use)))


def template_of(revision: ControllerRevision) -> dict[str, Any]:
    template = (revision.data.get("spec") or {}).get("template") or {}
    return {k: v for k, v in template.items() if k != "$patch"}


def _render(stateful_set: StatefulSet, number: int) -> dict[str, Any]:
    template = stateful_set.spec.template
    digest = template_hash(comparable_template(template), stateful_set.status.collision_count or 0)
    metadata = stateful_set.metadata
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            # Room for the hash in the 253 characters of a name.
            "name": f"{metadata.name[:223]}-{digest}",
            "namespace": metadata.namespace,
            "labels": {**((template.get("metadata") or {}).get("labels") or {}), names.REVISION_HASH: digest},
            "annotations": metadata.annotations,
        },
        # A strategic merge patch of the set: `kubectl rollout undo` sends it.
        "data": {"spec": {"template": {**template, "$patch": "replace"}}},
        "revision": number,
    }


def _forget(seen: Observed, stored: list[ControllerRevision], in_use: set[str]) -> list[Action]:
    """Delete the oldest revisions beyond `revisionHistoryLimit` that no pod has."""
    spare = [r for r in stored if r.metadata.name not in in_use and not r.metadata.is_terminating]
    limit = history_limit(seen.stateful_set)
    why = f"{len(spare)} old revisions exist, the limit is {limit}"
    return [
        Delete(ControllerRevision, r.key, r.uid, why, owner=seen.stateful_set)
        for r in spare[: max(0, len(spare) - limit)]
    ]
