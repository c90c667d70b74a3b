"""Decide what becomes of an object whose owners go, and of an owner that waits for its dependents.

The rules are those of upstream's `garbagecollector.go`. An owner is present when the object of its UID has the kind and
name that the reference tells, in the dependent's namespace or in none; an object of the owner's name with another UID
is another object, so the owner is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pybrix.api import names
from pybrix.api.identity import Uid
from pybrix.cluster.workloads.garbage.state import Graph, Node, Owner


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete an object the way a client would."""

    node: Node
    propagation: str
    why: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """Take references to these owners off an object."""

    node: Node
    owners: frozenset[Uid]
    why: str


@dataclass(frozen=True, slots=True)
class Unblock:
    """Let no owner wait for an object any more."""

    node: Node
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Take a finalizer off an object."""

    node: Node
    finalizer: str
    why: str


Move = Remove | Unlink | Unblock | Finish
IsClusterKind = Callable[[str, str], bool]
"""Says whether a group and kind are known to be of the whole cluster rather than of a namespace."""


def plan(graph: Graph, uid: Uid, is_cluster_kind: IsClusterKind) -> tuple[Move, ...]:
    """Return what to do about one object, in order."""
    node = graph.get(uid)
    if node is None:
        return ()
    if node.is_waiting:
        if any(owner.blocks for d in graph.dependents(uid) for owner in d.owners if owner.uid == uid):
            return ()
        return (Finish(node, names.FOREGROUND_DELETION, "no dependent that it waits for is left"),)
    if node.is_orphaning:
        why = f"{node.kind} {node.key} is deleted and orphans its dependents"
        unlinks = (Unlink(dependent, frozenset({uid}), why) for dependent in graph.dependents(uid))
        return (*unlinks, Finish(node, names.ORPHAN, "its dependents are orphans"))
    if node.is_terminating or not node.owners:
        return ()
    waiting: list[Owner] = []
    absent: list[Owner] = []
    for owner in node.owners:
        match _state(graph, node, owner, is_cluster_kind):
            case "waiting":
                waiting.append(owner)
            case "absent":
                absent.append(owner)
    gone = [*absent, *waiting]
    told = ", ".join(f"{o.kind} {o.name}" for o in gone)
    if len(gone) < len(node.owners):
        if not gone:
            return ()
        return (Unlink(node, frozenset(o.uid for o in gone), f"{told} is gone, another owner is left"),)
    if waiting and (dependents := graph.dependents(uid)):
        why = f"{told} is deleted in the foreground"
        # Two objects that wait for each other would wait forever.
        circle = [Unblock(node, f"{why}, and so is a dependent")] if any(d.is_waiting for d in dependents) else []
        return (*circle, Remove(node, "Foreground", why))
    return (Remove(node, _propagation(node), f"its owner {told} is {'deleted' if waiting else 'gone'}"),)


def _state(graph: Graph, node: Node, owner: Owner, is_cluster_kind: IsClusterKind) -> str:
    present = graph.get(owner.uid)
    if not node.key.namespace:
        # A namespaced owner of an object in no namespace cannot be resolved; upstream leaves such an object alone.
        is_namespaced = bool(present.key.namespace) if present else not is_cluster_kind(owner.group, owner.kind)
        if is_namespaced:
            return "solid"
    if present is None or (present.group, present.kind, present.key.name) != (owner.group, owner.kind, owner.name):
        return "absent"
    if present.key.namespace not in ("", node.key.namespace):
        return "absent"
    return "waiting" if present.is_waiting else "solid"


def _propagation(node: Node) -> str:
    if names.ORPHAN in node.finalizers:
        return "Orphan"
    return "Foreground" if names.FOREGROUND_DELETION in node.finalizers else "Background"
