"""What becomes of dependents: tables, and a property over whole graphs in a world in memory."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.workloads.garbage.plan import Finish, Move, Remove, Unblock, Unlink, plan
from pybrix.cluster.workloads.garbage.state import Graph, Node, Owner, read_node

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def node(name: str, *owners: str, blocks: bool = True, namespace: str = "default", uid: str = "") -> Node:
    references = tuple(Owner(Uid(f"uid-{o}"), "", "Thing", o, blocks) for o in owners)
    return Node("things", ObjectKey(namespace, name), Uid(uid or f"uid-{name}"), "", "Thing", references)


def decide(graph: Graph, name: str, *, is_cluster_kind: bool = False) -> tuple[Move, ...]:
    return plan(graph, Uid(f"uid-{name}"), lambda _group, _kind: is_cluster_kind)


class World:
    """Objects that are deleted as an API server does it; `settle` lets the collector work until nothing changes."""

    def __init__(self, *nodes: Node) -> None:
        self.graph = Graph(nodes)
        self.todo: list[Uid] = self.graph.uids()

    @property
    def names(self) -> set[str]:
        return {n.key.name for uid in self.graph.uids() if (n := self.graph.get(uid)) is not None}

    def delete(self, name: str, propagation: str = "Background") -> None:
        found = self.graph.get(Uid(f"uid-{name}"))
        assert found is not None
        extra = {"Foreground": (FOREGROUND,), "Orphan": (ORPHAN,)}.get(propagation, ())
        self._store(replace(found, is_terminating=True, finalizers=tuple(dict.fromkeys((*found.finalizers, *extra)))))

    def settle(self) -> None:
        passes = 0
        while self.todo:
            passes += 1
            assert passes < 5000, "the collector does not settle"
            for move in plan(self.graph, self.todo.pop(0), lambda _group, _kind: False):
                present = self.graph.get(move.node.uid)
                if present is None:
                    continue
                match move:
                    case Remove():
                        self.delete(present.key.name, move.propagation)
                    case Unlink():
                        self._store(
                            replace(present, owners=tuple(o for o in present.owners if o.uid not in move.owners))
                        )
                    case Unblock():
                        self._store(replace(present, owners=tuple(replace(o, blocks=False) for o in present.owners)))
                    case Finish():
                        self._store(
                            replace(present, finalizers=tuple(f for f in present.finalizers if f != move.finalizer))
                        )

    def _store(self, changed: Node) -> None:
        if changed.is_terminating and not changed.finalizers:
            self.todo += self.graph.affected(self.graph.drop(changed.uid), None)
        else:
            self.todo += self.graph.affected(self.graph.put(changed), changed)


def test_dependents_follow_their_owner() -> None:
    world = World(node("deploy"), node("set", "deploy"), node("pod", "set"), node("other"))
    world.delete("deploy")
    world.settle()
    assert world.names == {"other"}


def test_an_owner_of_the_same_name_with_another_uid_is_absent() -> None:
    world = World(node("deploy", uid="uid-recreated"), node("set", "deploy"))
    world.settle()
    assert world.names == {"deploy"}


def test_an_owner_of_another_kind_or_namespace_is_absent() -> None:
    other_kind = replace(node("a"), kind="Gadget")
    assert isinstance(decide(Graph([other_kind, node("child", "a")]), "child")[0], Remove)
    elsewhere = node("b", namespace="elsewhere")
    assert isinstance(decide(Graph([elsewhere, node("child", "b")]), "child")[0], Remove)


def test_an_owner_without_a_namespace_is_present_everywhere() -> None:
    assert decide(Graph([node("a", namespace=""), node("child", "a")]), "child") == ()


def test_an_object_in_no_namespace_is_left_alone_unless_its_owners_kind_is_known() -> None:
    graph = Graph([node("child", "gone", namespace="")])
    assert decide(graph, "child") == ()
    assert isinstance(decide(graph, "child", is_cluster_kind=True)[0], Remove)


def test_one_living_owner_is_enough() -> None:
    world = World(node("a"), node("b"), node("child", "a", "b"))
    world.delete("a")
    world.settle()
    assert world.names == {"b", "child"}
    child = world.graph.get(Uid("uid-child"))
    assert child is not None
    assert [o.name for o in child.owners] == ["b"]


def test_foreground_deletes_the_owner_last() -> None:
    held = replace(node("pod", "set"), finalizers=("example.com/hold",))
    world = World(node("deploy"), node("set", "deploy"), held)
    world.delete("deploy", "Foreground")
    world.settle()
    assert world.names == {"deploy", "set", "pod"}
    (finish,) = [replace(n, finalizers=()) for n in [world.graph.get(Uid("uid-pod"))] if n is not None]
    world._store(finish)
    world.settle()
    assert world.names == set()


def test_foreground_does_not_wait_for_dependents_that_do_not_block() -> None:
    held = replace(node("pod", "set", blocks=False), finalizers=("example.com/hold",))
    world = World(node("set"), held)
    world.delete("set", "Foreground")
    world.settle()
    assert world.names == {"pod"}


def test_orphans_stay_without_the_reference() -> None:
    world = World(node("deploy"), node("set", "deploy"), node("pod", "set"))
    world.delete("deploy", "Orphan")
    world.settle()
    assert world.names == {"set", "pod"}
    orphan = world.graph.get(Uid("uid-set"))
    assert orphan is not None
    assert orphan.owners == ()


def test_a_circle_in_foreground_deletion_comes_to_an_end() -> None:
    world = World(node("a", "b"), node("b", "a"))
    world.delete("a", "Foreground")
    world.settle()
    assert world.names == set()


def test_an_object_that_ends_already_is_not_deleted_again() -> None:
    ending = replace(node("pod", "gone"), is_terminating=True, finalizers=("example.com/hold",))
    assert decide(Graph([ending]), "pod") == ()


def test_reading_an_object() -> None:
    reference = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "r", "uid": "u", "blockOwnerDeletion": True}
    metadata = {"name": "p", "namespace": "n", "uid": "x", "ownerReferences": [reference], "finalizers": ["f"]}
    got = read_node("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "deletionTimestamp": "t"}})
    owner = Owner(Uid("u"), "ray.io", "RayCluster", "r", blocks=True)
    assert got == Node("pods", ObjectKey("n", "p"), Uid("x"), "", "Pod", (owner,), True, ("f",))


@st.composite
def forests(draw: st.DrawFn) -> list[Node]:
    """Objects whose owners come before them, some of them absent; no object blocks itself."""
    count = draw(st.integers(1, 12))
    made: list[Node] = []
    for i in range(count):
        owners = draw(st.sets(st.integers(-1, i - 1), max_size=3)) if i else set()
        names = ["absent" if o < 0 else f"n{o}" for o in sorted(owners)]
        made.append(node(f"n{i}", *names, blocks=draw(st.booleans())))
    return made


@given(
    nodes=forests(),
    doomed=st.integers(0, 11),
    propagation=st.sampled_from(["Background", "Foreground"]),
)
def test_what_is_left_has_a_living_owner_or_never_had_one(nodes: list[Node], doomed: int, propagation: str) -> None:
    # The order of the list is one of ownership, so one walk tells who lives.
    world = World(*nodes)
    world.settle()
    chosen = f"n{doomed}"
    alive: set[str] = set()
    for n in nodes:
        if not n.owners or any(o.name in alive for o in n.owners):
            alive.add(n.key.name)
    assert world.names == alive
    if chosen in alive:
        world.delete(chosen, propagation)
        world.settle()
        after: set[str] = set()
        for n in nodes:
            is_kept = not n.owners or any(o.name in after for o in n.owners)
            if n.key.name in alive and n.key.name != chosen and is_kept:
                after.add(n.key.name)
        assert world.names == after
    again = World(*(left for uid in world.graph.uids() if (left := world.graph.get(uid)) is not None))
    again.settle()
    assert again.names == world.names, "a restart must not find anything left to do"
