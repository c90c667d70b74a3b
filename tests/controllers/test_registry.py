"""The registry: what it says of itself holds together, and lists of names choose from it."""

from __future__ import annotations

import random

import aiohttp
import pytest

from pybrix.api.config import ControllersConfiguration
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.base.errors import UsageError
from pybrix.controllers.registration import Registration, Setup
from pybrix.controllers.registry import (
    EVENTS,
    IMPLEMENTED,
    REGISTRY,
    kinds_without_controller,
    permissions_of,
    select,
)
from pybrix.controllers.unimplemented.controller import registration as unimplemented
from pybrix.kube.permissions import READ, Permission
from pybrix.runtime.manager import Manager
from tests.support.clocks import LoopClock
from tests.support.memoryapi import MemoryApi

PODS = Permission("", ("pods",), READ)
A = Registration("a", (ModelAdapter,), "things", (PODS,), lambda _: [])
B = Registration("b", (), "others", (PODS, Permission("", ("secrets",), ("get",))), lambda _: [])


def test_every_kind_belongs_to_exactly_one_registration() -> None:
    kinds = [kind for registration in REGISTRY for kind in registration.kinds]
    assert sorted(kind.gvk.kind for kind in kinds) == sorted(kind.gvk.kind for kind in CUSTOM_KINDS)


def test_names_are_unique_and_fit_into_a_list() -> None:
    names = [registration.name for registration in REGISTRY]
    assert len(set(names)) == len(names)
    assert all(name.isalnum() and name.islower() for name in names)


def test_a_kind_that_gains_a_controller_leaves_the_one_for_kinds_without() -> None:
    assert kinds_without_controller(()) == CUSTOM_KINDS
    assert ModelAdapter not in kinds_without_controller([A])
    assert unimplemented(()) == ()


async def test_every_registration_builds_controllers_and_says_what_they_may_do() -> None:
    for registration in REGISTRY:
        manager = Manager(MemoryApi(), component="test", clock=LoopClock(), chance=random.Random())
        async with aiohttp.ClientSession() as http:
            setup = Setup(manager, ControllersConfiguration(), LoopClock(), random.Random(), http)
            controllers = registration.build(setup)
        assert controllers
        assert registration.watches
        # Whatever is cached is listed and watched.
        allowed = {
            (permission.group, resource, verb)
            for permission in registration.permissions
            for resource in permission.resources
            for verb in permission.verbs
        }
        cached = {informer.cls.gvk for controller in controllers for informer in controller.informers}
        assert {(gvk.group, gvk.plural, verb) for gvk in cached for verb in ("list", "watch")} <= allowed


@pytest.mark.parametrize(
    ("patterns", "want"),
    [(["*"], ["a", "b"]), (["*", "-a"], ["b"]), (["-a", "*"], ["b"]), (["b"], ["b"]), (["b", "a"], ["a", "b"])],
)
def test_a_list_chooses_as_that_of_kube_controller_manager(patterns: list[str], want: list[str]) -> None:
    assert [registration.name for registration in select(patterns, (A, B))] == want


@pytest.mark.parametrize(
    ("patterns", "says"), [(["c"], "'c' is none"), (["*", "-c"], "'-c' is none"), (["-a"], "none to run"), ([], "none")]
)
def test_a_list_that_cannot_be_meant_is_refused(patterns: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        select(patterns, (A, B))


def test_permissions_are_joined_without_repetition() -> None:
    assert permissions_of([A, B]) == (EVENTS, PODS, B.permissions[1])
    assert set(permissions_of(IMPLEMENTED)) <= set(permissions_of(REGISTRY))
