"""What the controller of RayClusterReplicaSets sees in one pass, and the options that annotations set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.api.selectors import Selector, compile_label_selector
from pybrix.api.templates import ray_template_problem
from pybrix.base.clock import parse_rfc3339
from pybrix.controllers.rayclusterreplicaset.clusters import is_leaving
from pybrix.runtime.claims import Claims, claim, selector_problem

DEFAULT_DRAIN_DEADLINE_S = 30.0
DEFAULT_REPAIR_AFTER_S = 300.0
"""KubeRay replaces lost pods by itself; a new pod may have to pull its image and load a model."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head pod of a cluster, and what it was last found at."""

    pod: Pod
    requests: int | None = None
    """Requests that its engine runs or keeps waiting; None: not asked, or it does not say."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One RayClusterReplicaSet and the RayClusters that concern it."""

    replica_set: RayClusterReplicaSet
    claims: Claims[RayCluster]
    """Its clusters, those to adopt, those to release."""
    heads: Mapping[Uid, Head] = field(default_factory=dict)
    """Head pods by the UID of their cluster, of clusters that drain or may have to."""
    confirmed: frozenset[Uid] = frozenset()
    """UIDs of clusters whose heads were read from the API server for this pass, and asked; other heads are cached."""
    is_settled: bool = True
    """Whether the cache shows every creation and deletion of earlier passes."""

    @property
    def replicas(self) -> int:
        """Return how many clusters there should be: none, when the set is being deleted."""
        return 0 if self.replica_set.metadata.is_terminating else self.replica_set.spec.replicas

    @property
    def staying(self) -> tuple[RayCluster, ...]:
        """Return the clusters that count as replicas."""
        return tuple(c for c in self.claims.owned if not is_leaving(c))

    @property
    def leaving(self) -> tuple[RayCluster, ...]:
        return tuple(c for c in self.claims.owned if is_leaving(c))


def observe(
    replica_set: RayClusterReplicaSet,
    clusters: Iterable[RayCluster],
    heads: Mapping[Uid, Head] | None = None,
    *,
    is_settled: bool = True,
) -> Observed:
    """Sort the RayClusters of the namespace that the set controls, or that no controller owns.

    Raises:
        ValueError: the selector is one that `problem` complains about.
    """
    if found := problem(replica_set):
        raise ValueError(found)
    claims = claim(replica_set, compile_label_selector(replica_set.spec.selector) or Selector(), clusters)
    return Observed(replica_set, claims, heads or {}, is_settled=is_settled)


def confirm(seen: Observed, uids: frozenset[Uid], heads: Mapping[Uid, Head]) -> Observed:
    """Return what is seen with the heads of these clusters as the API server has them; it may have none."""
    kept = {uid: head for uid, head in seen.heads.items() if uid not in uids}
    return replace(seen, heads={**kept, **heads}, confirmed=seen.confirmed | uids)


def problem(replica_set: RayClusterReplicaSet) -> str:
    """Say why a set cannot be worked on; empty when it can. A server may be less strict than this."""
    spec = replica_set.spec
    if found := selector_problem(spec.selector):
        return found
    if spec.template is None:
        return "spec.template is missing: RayClusters are made from it"
    selector = compile_label_selector(spec.selector)
    if selector is None or not selector.matches(spec.template.metadata.labels):
        return "spec.selector does not match the labels of spec.template: what is created would not be found again"
    if spec.replicas < 0:
        return f"spec.replicas is {spec.replicas}: it cannot be negative"
    return ray_template_problem(spec.template)


def is_held(replica_set: RayClusterReplicaSet) -> bool:
    """Say whether a set cannot go before it is let go here."""
    return names.DRAIN_FINALIZER in replica_set.metadata.finalizers


def goes_without_drain(replica_set: RayClusterReplicaSet) -> bool:
    """Say whether a set is being deleted in a way that decides what becomes of its clusters: they go first, or stay."""
    decided = {names.FOREGROUND_DELETION, names.ORPHAN}
    return replica_set.metadata.is_terminating and not decided.isdisjoint(replica_set.metadata.finalizers)


def drain_deadline_s(replica_set: RayClusterReplicaSet) -> float:
    """Return how long the requests of a head may take to end before its cluster is deleted."""
    return _seconds(replica_set, names.DRAIN_DEADLINE, DEFAULT_DRAIN_DEADLINE_S)


def repair_after_s(replica_set: RayClusterReplicaSet) -> float:
    """Return how long KubeRay may be silent about a failed cluster before it is replaced."""
    return _seconds(replica_set, names.REPAIR_AFTER, DEFAULT_REPAIR_AFTER_S)


def replacements(replica_set: RayClusterReplicaSet) -> tuple[int, datetime | None]:
    """Return how many failed clusters were replaced in a row, and when the last one."""
    annotations = replica_set.metadata.annotations
    try:
        last = parse_rfc3339(annotations[names.LAST_REPLACEMENT])
    except (KeyError, ValueError):
        return 0, None
    text = annotations.get(names.REPLACEMENTS, "")
    return int(text) if text.isascii() and text.isdigit() else 0, last


def _seconds(replica_set: RayClusterReplicaSet, annotation: str, default: float) -> float:
    text = replica_set.metadata.annotations.get(annotation, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
