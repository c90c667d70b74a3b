"""Who owns whom, over all kinds: the graph that owner references make. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.api import names
from pybrix.api.identity import ObjectKey, Uid


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner reference as an object carries it; whether such an owner exists is another matter."""

    uid: Uid
    group: str
    kind: str
    name: str
    blocks: bool = False
    """Whether the owner's foreground deletion waits for this dependent."""


@dataclass(frozen=True, slots=True)
class Node:
    """An object as far as ownership is concerned."""

    resource: str
    key: ObjectKey
    uid: Uid
    group: str
    kind: str
    owners: tuple[Owner, ...] = ()
    is_terminating: bool = False
    finalizers: tuple[str, ...] = ()

    @property
    def is_waiting(self) -> bool:
        """Say whether it is being deleted in the foreground: after its dependents."""
        return self.is_terminating and names.FOREGROUND_DELETION in self.finalizers

    @property
    def is_orphaning(self) -> bool:
        """Say whether it is being deleted and leaves its dependents behind."""
        return self.is_terminating and names.ORPHAN in self.finalizers


def read_node(resource: str, data: Mapping[str, Any]) -> Node:
    """Read the ownership of a stored object of any kind."""
    metadata = data["metadata"]
    owners = tuple(
        Owner(
            uid=Uid(str(reference.get("uid", ""))),
            group=_group(reference),
            kind=str(reference.get("kind", "")),
            name=str(reference.get("name", "")),
            blocks=bool(reference.get("blockOwnerDeletion")),
        )
        for reference in metadata.get("ownerReferences") or ()
    )
    return Node(
        resource=resource,
        key=ObjectKey(metadata.get("namespace") or "", metadata["name"]),
        uid=Uid(metadata["uid"]),
        group=_group(data),
        kind=str(data.get("kind", "")),
        owners=owners,
        is_terminating=bool(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
    )


class Graph:
    """All objects by UID, and the dependents of each, whether the owner exists or not."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: dict[Uid, Node] = {}
        # Inner dicts are ordered sets: dependents are worked on in the order in which they came.
        self._dependents: dict[Uid, dict[Uid, None]] = {}
        for node in nodes:
            self.put(node)

    def get(self, uid: Uid) -> Node | None:
        return self._nodes.get(uid)

    def uids(self) -> list[Uid]:
        return list(self._nodes)

    def dependents(self, uid: Uid) -> list[Node]:
        """Return the objects that name this UID as an owner."""
        return [self._nodes[dependent] for dependent in self._dependents.get(uid, ())]

    def put(self, node: Node) -> Node | None:
        """Take in an object as it is now; return what it was."""
        old = self.drop(node.uid)
        self._nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner.uid, {})[node.uid] = None
        return old

    def drop(self, uid: Uid) -> Node | None:
        """Forget an object that is gone; return what it was. Its dependents still name it."""
        old = self._nodes.pop(uid, None)
        for owner in old.owners if old is not None else ():
            siblings = self._dependents.get(owner.uid, {})
            siblings.pop(uid, None)
            if not siblings:
                self._dependents.pop(owner.uid, None)
        return old

    def affected(self, old: Node | None, new: Node | None) -> list[Uid]:
        """Return the objects whose fate may change with an object: itself, waiting owners, and its dependents."""
        found: dict[Uid, None] = {}
        for node in (old, new):
            for owner in node.owners if node is not None else ():
                present = self._nodes.get(owner.uid)
                if present is not None and present.is_waiting:
                    found[owner.uid] = None
        if new is not None and (new.owners or new.is_terminating):
            found[new.uid] = None
        uid = new.uid if new is not None else old.uid if old is not None else Uid("")
        if new is None or new.is_waiting != (old is not None and old.is_waiting):
            found |= dict.fromkeys(self._dependents.get(uid, ()))
        return list(found)


def _group(data: Mapping[str, Any]) -> str:
    return str(data.get("apiVersion", "")).rpartition("/")[0]
