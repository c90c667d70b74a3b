"""What the manifests give is enough, and no more, as a server with roles enforced decides."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.access.authorizer import RBAC, Rbac
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.users import User
from pybrix.cluster.store.store import Store
from pybrix.install.manifests import Parts, render
from pybrix.install.rights import collect_rights
from pybrix.install.settings import resolve
from pybrix.kube.permissions import Permission

NAMESPACE = "pybrix-system"
PLURALS = {"Role": "roles", "ClusterRole": "clusterroles"}
PLURALS |= {"RoleBinding": "rolebindings", "ClusterRoleBinding": "clusterrolebindings"}
RIGHTS = collect_rights()


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Rbac]:
    """Decides by the roles and bindings of an installation."""
    store = Store.open(tmp_path / "cluster.db", clock=SystemClock())
    objects = Objects(store, Catalog(), clock=SystemClock(), chance=random.Random(1))
    documents: list[Any] = render(resolve((), ()), RIGHTS, namespace=NAMESPACE, parts=Parts())
    for document in documents:
        if document["kind"] == "Namespace":
            objects.create("namespaces", document)
    for document in documents:
        if document["kind"] in PLURALS:
            objects.create(f"{PLURALS[document['kind']]}.{RBAC}", document)
    yield Rbac(store)
    store.close()


def account(name: str) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated")
    return User(f"system:serviceaccount:{NAMESPACE}:{name}", groups)


def requests(permissions: Iterable[Permission], namespace: str) -> Iterator[Attributes]:
    """Yield what a component does by what it says."""
    for permission in permissions:
        for full in permission.resources:
            resource, _, subresource = full.partition("/")
            for verb in permission.verbs:
                for name in permission.names or ("any",):
                    yield Attributes(verb, permission.group, resource, subresource, namespace, name)


@pytest.mark.parametrize(
    ("component", "permissions", "namespace"),
    [
        ("pybrix-controllers", RIGHTS.controllers, "models"),
        ("pybrix-controllers", RIGHTS.election, NAMESPACE),
        ("pybrix-gateway", RIGHTS.gateway, "models"),
    ],
    ids=["controllers", "election", "gateway"],
)
def test_component_may_do_what_it_says(
    access: Rbac, component: str, permissions: tuple[Permission, ...], namespace: str
) -> None:
    wanted = list(requests(permissions, namespace))
    assert wanted
    refused = [w for w in wanted if not access.decide(account(component), w).is_allowed]
    assert refused == []


@pytest.mark.parametrize("component", ["pybrix-controllers", "pybrix-gateway"])
@pytest.mark.parametrize(
    "wanted",
    [
        Attributes("delete", "", "nodes", name="n"),
        Attributes("create", RBAC, "clusterrolebindings", name="x"),
        Attributes("impersonate", "", "users", name="system:admin"),
        Attributes("create", "", "pods", "exec", NAMESPACE, "p"),
        Attributes("list", "", "secrets", namespace="kube-system"),
    ],
    ids=lambda w: f"{w.verb}-{w.full_resource}",
)
def test_component_may_not_do_more(access: Rbac, component: str, wanted: Attributes) -> None:
    if any(
        wanted.verb in p.verbs and wanted.group == p.group and wanted.full_resource in p.resources and not p.names
        for p in (*RIGHTS.controllers, *RIGHTS.gateway)
    ):
        pytest.skip("a component says that it does so")
    assert not access.decide(account(component), wanted).is_allowed


def test_stranger_may_do_nothing(access: Rbac) -> None:
    for wanted in requests((*RIGHTS.controllers, *RIGHTS.gateway), "models"):
        assert not access.decide(account("default"), wanted).is_allowed
