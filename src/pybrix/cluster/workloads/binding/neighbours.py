"""Rules about the pods beside a pod: affinity, anti-affinity and spread over topologies. Pure.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/ and .../topology-spread-constraints/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pybrix.api.core import Node, Pod
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import Requirement, Selector, compile_label_selector
from pybrix.cluster.workloads.binding.constraints import is_in_affinity

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NO_AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
OTHERS_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"
SPREAD = "node(s) didn't match pod topology spread constraints"
SPREAD_NO_LABEL = f"{SPREAD} (missing required label)"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Term:
    """Some pods, and the node label by which nodes are one place."""

    pods: Selector | None
    topology: str
    namespaces: frozenset[str]
    in_namespaces: Selector | None = None
    """Of the labels of namespaces; None: those in `namespaces` alone."""
    weight: int = 0

    def matches(self, pod: Pod, namespaces: Mapping[str, Labels]) -> bool:
        if self.pods is None or not self.pods.matches(pod.metadata.labels):
            return False
        namespace = pod.metadata.namespace
        if namespace in self.namespaces:
            return True
        return self.in_namespaces is not None and self.in_namespaces.matches(namespaces.get(namespace, {}))


@dataclass(slots=True)
class Placed:
    """The pods that have nodes, as the pass goes on: what is placed in it counts for the next pod."""

    nodes: Mapping[str, Node]
    namespaces: Mapping[str, Labels] = field(default_factory=dict)
    """Labels of each namespace."""
    pods: list[tuple[Pod, Labels]] = field(default_factory=list)
    """Pods with the labels of their nodes."""
    averse: list[tuple[Pod, Labels, tuple[Term, ...]]] = field(default_factory=list)
    """Those of them that require others to be elsewhere."""

    def add(self, pod: Pod, node: str) -> None:
        if node not in self.nodes:
            return
        labels = self.nodes[node].metadata.labels
        self.pods.append((pod, labels))
        try:
            terms = terms_of(pod, "podAntiAffinity")
        except ValueError:
            return  # it was placed by somebody who knew better
        if terms:
            self.averse.append((pod, labels, terms))

    def count(self, term: Term, *, with_ending: bool = True) -> Counter[str]:
        """Return how many pods of a term are in each place."""
        return Counter(
            labels[term.topology]
            for pod, labels in self.pods
            if term.topology in labels
            and term.matches(pod, self.namespaces)
            and (with_ending or not pod.metadata.is_terminating)
        )


class Neighbourhood:
    """What the rules of one waiting pod say about each node."""

    def __init__(self, pod: Pod, placed: Placed) -> None:
        self._pod = pod
        self._placed = placed
        self._near = [(t, placed.count(t)) for t in terms_of(pod, "podAffinity")]
        self._far = [(t, placed.count(t)) for t in terms_of(pod, "podAntiAffinity")]
        self._spreads = [_Spread(c, pod, placed) for c in spread_constraints(pod) if c.is_hard]
        self._wanted = [(t, placed.count(t)) for t in preferred_terms(pod)]
        self._soft = [_Spread(c, pod, placed) for c in spread_constraints(pod) if not c.is_hard]
        # The first pod of a group that wants to be together has nobody to be near to yet.
        self._is_first = not any(count for _, count in self._near) and all(
            t.matches(pod, placed.namespaces) for t, _ in self._near
        )

    def obstacle(self, node: Node) -> str:
        """Say, in upstream's words, why a node may not have the pod; empty when it may."""
        labels = node.metadata.labels
        for spread in self._spreads:
            if why := spread.obstacle(labels):
                return why
        for term, count in self._near:
            if term.topology not in labels or not (self._is_first or count[labels[term.topology]]):
                return NO_AFFINITY
        if any(term.topology in labels and count[labels[term.topology]] for term, count in self._far):
            return ANTI_AFFINITY
        for _, where, terms in self._placed.averse:
            for term in terms:
                is_same = term.topology in labels and labels[term.topology] == where.get(term.topology)
                if is_same and term.matches(self._pod, self._placed.namespaces):
                    return OTHERS_ANTI_AFFINITY
        return ""

    def attraction(self, node: Node) -> int:
        """Return how much the pod prefers to be near what is in the node's places; negative: far from it."""
        labels = node.metadata.labels
        return sum(
            term.weight * count[labels[term.topology]] for term, count in self._wanted if term.topology in labels
        )

    def crowding(self, node: Node) -> int:
        """Return how many pods are in the node's places already that the pod would rather be spread from."""
        return sum(spread.crowding(node.metadata.labels) for spread in self._soft)


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """At most `max_skew` more pods in one place than in the emptiest."""

    max_skew: int
    term: Term
    is_hard: bool
    min_domains: int
    honors_affinity: bool


class _Spread:
    def __init__(self, constraint: SpreadConstraint, pod: Pod, placed: Placed) -> None:
        self._constraint = constraint
        term = constraint.term
        self._own = int(term.matches(pod, placed.namespaces))
        self._count = placed.count(term, with_ending=False)
        eligible = (
            node for node in placed.nodes.values() if not constraint.honors_affinity or is_in_affinity(pod, node)
        )
        self._domains = {n.metadata.labels[term.topology] for n in eligible if term.topology in n.metadata.labels}

    def obstacle(self, labels: Labels) -> str:
        constraint = self._constraint
        place = labels.get(constraint.term.topology)
        if place is None:
            return SPREAD_NO_LABEL
        fewest = min((self._count[domain] for domain in self._domains), default=0)
        if len(self._domains) < constraint.min_domains:
            fewest = 0
        return SPREAD if self._count[place] + self._own - fewest > constraint.max_skew else ""

    def crowding(self, labels: Labels) -> int:
        place = labels.get(self._constraint.term.topology)
        # A node without the label is the last choice.
        return self._count[place] if place is not None else max(self._count.values(), default=0) + 1


def terms_of(pod: Pod, kind: str) -> tuple[Term, ...]:
    """Return the required terms of `podAffinity` or `podAntiAffinity`. Raises ValueError: a selector is malformed."""
    listed = ((pod.spec.affinity or {}).get(kind) or {}).get(_REQUIRED) or ()
    return tuple(_term(pod, term) for term in listed)


def preferred_terms(pod: Pod) -> tuple[Term, ...]:
    """Return the preferred terms of both kinds; those to be far from have negative weights."""
    affinity = pod.spec.affinity or {}
    return tuple(
        _term(pod, item.get("podAffinityTerm") or {}, sign * int(item.get("weight") or 0))
        for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1))
        for item in (affinity.get(kind) or {}).get(_PREFERRED) or ()
    )


def _term(pod: Pod, term: Mapping[str, Any], weight: int = 0) -> Term:
    selector = term.get("namespaceSelector")
    named = frozenset(term.get("namespaces") or ())
    if not named and selector is None:
        named = frozenset({pod.metadata.namespace})
    labels = pod.metadata.labels
    more = [
        Requirement(key, operator, frozenset({labels[key]}))
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in term.get(field) or ()
        if key in labels
    ]
    pods = _with(_selector(term.get("labelSelector")), more)
    return Term(pods, str(term.get("topologyKey") or ""), named, _selector(selector), weight)


def spread_constraints(pod: Pod) -> tuple[SpreadConstraint, ...]:
    labels = pod.metadata.labels
    found = []
    for item in pod.spec.topology_spread_constraints:
        more = [Requirement(k, "In", frozenset({labels[k]})) for k in item.get("matchLabelKeys") or () if k in labels]
        term = Term(
            _with(_selector(item.get("labelSelector")), more),
            str(item.get("topologyKey") or ""),
            frozenset({pod.metadata.namespace}),
        )
        found.append(
            SpreadConstraint(
                int(item.get("maxSkew") or 1),
                term,
                item.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
                int(item.get("minDomains") or 1),
                item.get("nodeAffinityPolicy", "Honor") == "Honor",
            )
        )
    return tuple(found)


def _selector(given: Any) -> Selector | None:
    if given is None:
        return None
    try:
        return compile_label_selector(msgspec.convert(given, LabelSelector))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _with(selector: Selector | None, more: Sequence[Requirement]) -> Selector | None:
    return Selector((*selector.requirements, *more)) if selector is not None else None
