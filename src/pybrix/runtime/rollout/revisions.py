"""How revisions are numbered, and what each remembers in its annotations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pybrix.api import names

REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
ROLLBACK_TO = "deprecated.deployment.rollback.to"
_HISTORY_LENGTH = 2000
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        ROLLBACK_TO,
        names.DEPLOYMENT_REVISION,
        REVISION_HISTORY,
        names.DEPLOYMENT_DESIRED_REPLICAS,
        names.DEPLOYMENT_MAX_REPLICAS,
    }
)


def without_nulls(value: Any) -> Any:
    """Return a JSON-like value without the fields that are null."""
    if isinstance(value, Mapping):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def revision(annotations: Mapping[str, str]) -> int:
    """Return the revision that annotations tell; 0 when they tell none."""
    return number_in(annotations, names.DEPLOYMENT_REVISION) or 0


def number_in(annotations: Mapping[str, str], name: str) -> int | None:
    """Return an annotation that is a plain number; None when it is absent or anything else."""
    text = annotations.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def next_revision(old: Iterable[Mapping[str, str]]) -> int:
    """Return the number after those in the annotations of the old revisions."""
    return max(map(revision, old), default=0) + 1


def annotations_of_new(owner: Mapping[str, str], present: Mapping[str, str], number: int) -> dict[str, str]:
    """Return the annotations that the present template's revision lacks: the owner's own, and its number.

    A revision that becomes the newest again (a rollback) gets a higher number; its old one goes to the history.
    """
    changes = {k: v for k, v in owner.items() if k not in _NOT_COPIED and present.get(k) != v}
    before = present.get(names.DEPLOYMENT_REVISION)
    if revision(present) < number:
        changes[names.DEPLOYMENT_REVISION] = str(number)
        if before is not None:
            history = [t for t in present.get(REVISION_HISTORY, "").split(",") if t]
            if before not in history:
                history.append(before)
            while len(",".join(history)) > _HISTORY_LENGTH:
                history.pop(0)
            changes[REVISION_HISTORY] = ",".join(history)
    return changes


def size_annotations(desired: int, most: int) -> dict[str, str]:
    """Return what a revision remembers of its owner's size, for scaling in mid-rollout."""
    return {names.DEPLOYMENT_DESIRED_REPLICAS: str(desired), names.DEPLOYMENT_MAX_REPLICAS: str(most)}
