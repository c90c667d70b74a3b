"""Which adapters select which pods, kept up to date change by change. No I/O.

Adapters with the same selector in the same namespace are one group, so that a pod is matched once for all of them; and
groups are found by one of their labels, so that a pod is not matched against every group there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import LabelSelector
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.selectors import Selector, compile_label_selector
from pybrix.controllers.modeladapter.state import PodFacts, Survey, survey

_Anchor = tuple[str, str, str]
"""Namespace and one label that a group requires; ("", "") for groups that require no value of any label."""


@dataclass(slots=True, eq=False)
class Group:
    """Adapters with one selector, and the pods that it matches."""

    namespace: str
    selector: Selector
    anchor: _Anchor
    adapters: set[ObjectKey] = field(default_factory=set)
    everywhere: set[ObjectKey] = field(default_factory=set)
    """Those of them that go into all pods."""
    members: dict[Uid, PodFacts] = field(default_factory=dict)
    _survey: Survey | None = None

    @property
    def survey(self) -> Survey:
        """What the members have in common; computed once between two changes of them."""
        if self._survey is None:
            self._survey = survey(self.members.values())
        return self._survey

    def put(self, pod: PodFacts) -> None:
        self.members[pod.uid] = pod
        self._survey = None

    def drop(self, uid: Uid) -> None:
        if self.members.pop(uid, None) is not None:
            self._survey = None


_NOTHING = Group("", Selector(), ("", "", ""))


class Selection:
    """The groups of all adapters, over all pods."""

    def __init__(self) -> None:
        self._pods: dict[Uid, PodFacts] = {}
        self._pods_of_namespace: dict[str, dict[Uid, PodFacts]] = {}
        self._pods_of_label: dict[_Anchor, dict[Uid, PodFacts]] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._by_anchor: dict[_Anchor, set[tuple[str, str]]] = {}
        self._group_of: dict[ObjectKey, Group] = {}

    def pod(self, uid: Uid) -> PodFacts | None:
        return self._pods.get(uid)

    def group_of(self, adapter: ObjectKey) -> Group:
        """Return the group of an adapter; an empty one when its selector is none."""
        return self._group_of.get(adapter, _NOTHING)

    def groups_of(self, pod: PodFacts) -> list[Group]:
        """Return the groups whose selector matches a pod."""
        found = []
        for anchor in _anchors(pod):
            for name in self._by_anchor.get(anchor, ()):
                group = self._groups[name]
                if group.selector.matches(pod.labels):
                    found.append(group)
        return found

    def put_adapter(self, adapter: ModelAdapter) -> Group:
        """Put an adapter into its group, out of the one that it was in; return the group."""
        key = adapter.key
        compiled = _compile(adapter.spec.pod_selector)
        old = self._group_of.get(key)
        if compiled is None:
            self.drop_adapter(key)
            return _NOTHING
        name = (key.namespace, str(compiled))
        group = self._groups.get(name)
        if group is None:
            group = self._add_group(name, compiled)
        if old is not None and old is not group:
            self.drop_adapter(key)
        self._group_of[key] = group
        group.adapters.add(key)
        if adapter.spec.replicas is None:
            group.everywhere.add(key)
        else:
            group.everywhere.discard(key)
        return group

    def drop_adapter(self, key: ObjectKey) -> None:
        group = self._group_of.pop(key, None)
        if group is None:
            return
        group.adapters.discard(key)
        group.everywhere.discard(key)
        if not group.adapters:
            name = (group.namespace, str(group.selector))
            del self._groups[name]
            self._by_anchor[group.anchor].discard(name)
            if not self._by_anchor[group.anchor]:
                del self._by_anchor[group.anchor]

    def put_pod(self, pod: PodFacts) -> list[Group]:
        """Take a pod as it is now; return the groups that it is in, or was in before."""
        before = self._pods.get(pod.uid)
        touched = self.groups_of(before) if before is not None else []
        if before is not None and before.labels != pod.labels:
            self._unindex(before)
        now = self.groups_of(pod)
        for group in touched:
            if group not in now:
                group.drop(pod.uid)
        for group in now:
            group.put(pod)
        self._pods[pod.uid] = pod
        self._pods_of_namespace.setdefault(pod.key.namespace, {})[pod.uid] = pod
        for anchor in _labels(pod):
            self._pods_of_label.setdefault(anchor, {})[pod.uid] = pod
        return [*now, *(group for group in touched if group not in now)]

    def drop_pod(self, uid: Uid) -> list[Group]:
        """Forget a pod; return the groups that it was in."""
        pod = self._pods.pop(uid, None)
        if pod is None:
            return []
        touched = self.groups_of(pod)
        for group in touched:
            group.drop(uid)
        self._pods_of_namespace[pod.key.namespace].pop(uid, None)
        self._unindex(pod)
        return touched

    def _add_group(self, name: tuple[str, str], selector: Selector) -> Group:
        namespace = name[0]
        anchor = next(
            (
                (namespace, r.key, next(iter(r.values)))
                for r in selector.requirements
                if _is_exact(r.operator, r.values)
            ),
            (namespace, "", ""),
        )
        group = self._groups[name] = Group(namespace, selector, anchor)
        self._by_anchor.setdefault(anchor, set()).add(name)
        near = self._pods_of_label.get(anchor) if anchor[1] else self._pods_of_namespace.get(namespace)
        for pod in (near or {}).values():
            if selector.matches(pod.labels):
                group.put(pod)
        return group

    def _unindex(self, pod: PodFacts) -> None:
        for anchor in _labels(pod):
            if found := self._pods_of_label.get(anchor):
                found.pop(pod.uid, None)
                if not found:
                    del self._pods_of_label[anchor]


def _is_exact(operator: str, values: Iterable[str]) -> bool:
    return operator == "In" and len(list(values)) == 1


def _labels(pod: PodFacts) -> list[_Anchor]:
    return [(pod.key.namespace, key, value) for key, value in pod.labels.items()]


def _anchors(pod: PodFacts) -> list[_Anchor]:
    return [*_labels(pod), (pod.key.namespace, "", "")]


def _compile(selector: LabelSelector) -> Selector | None:
    """Return the matcher; None for a selector that is empty or makes no sense."""
    if not selector.match_labels and not selector.match_expressions:
        return None
    try:
        return compile_label_selector(selector)
    except ValueError:
        return None
