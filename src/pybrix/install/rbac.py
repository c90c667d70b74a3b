"""Service accounts and rights: what components say that they do, as Roles or ClusterRoles. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pybrix.api.scheme import KINDS
from pybrix.install.names import NAMESPACE, cluster_metadata, cluster_name, metadata
from pybrix.install.template import Each, If, Item, Not, Template, Value
from pybrix.kube.permissions import Permission

_API = "rbac.authorization.k8s.io"
_CLUSTER_WIDE = frozenset((cls.gvk.group, cls.gvk.plural) for cls in KINDS if not cls.gvk.is_namespaced)


def rules_of(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """Return RBAC rules: verbs of a resource are joined, then resources of equal verbs; sorted, nothing twice."""
    verbs: dict[tuple[str, tuple[str, ...], str], set[str]] = defaultdict(set)
    for permission in permissions:
        for resource in permission.resources:
            verbs[permission.group, tuple(sorted(permission.names)), resource] |= set(permission.verbs)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, names, resource), allowed in verbs.items():
        resources[group, names, tuple(sorted(allowed))].append(resource)
    return [
        {
            "apiGroups": [group],
            "resources": sorted(found),
            **({"resourceNames": list(names)} if names else {}),
            "verbs": list(allowed),
        }
        for (group, names, allowed), found in sorted(resources.items())
    ]


def within_namespaces(permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    """Return the permissions without kinds that are in no namespace, such as nodes."""
    found = []
    for permission in permissions:
        resources = tuple(r for r in permission.resources if (permission.group, r) not in _CLUSTER_WIDE)
        if resources:
            found.append(replace(permission, resources=resources))
    return tuple(found)


def service_account(component: str) -> dict[str, Template]:
    """Return a service account whose token only those containers get that mount it."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(component, component),
        "automountServiceAccountToken": False,
    }


def rights(component: str, permissions: Iterable[Permission], namespaces: Value) -> list[Template]:
    """Return what a component may do: in some namespaces when `namespaces` lists any, everywhere otherwise.

    A Role grants nothing of kinds that are in no namespace, so these are left out there: components do without.
    """
    permissions = tuple(permissions)
    rules = rules_of(permissions)
    part = component.removeprefix("pybrix-")
    name = cluster_name(part)
    everywhere = [
        {
            "apiVersion": f"{_API}/v1",
            "kind": "ClusterRole",
            "metadata": cluster_metadata(name, component),
            "rules": rules,
        },
        {
            "apiVersion": f"{_API}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": cluster_metadata(name, component),
            "roleRef": {"apiGroup": _API, "kind": "ClusterRole", "name": name},
            "subjects": [_subject(component)],
        },
    ]
    # The name says which installation: two may serve one namespace.
    there = [*role(name, component, within_namespaces(permissions), Item("namespace"))]
    return [If(Not(namespaces), everywhere), Each(namespaces, "namespace", there)]


def role(
    name: Template, component: str, permissions: Iterable[Permission], namespace: Template = NAMESPACE
) -> list[Template]:
    """Return a Role in one namespace and its binding to the component's service account."""
    return [
        {
            "apiVersion": f"{_API}/v1",
            "kind": "Role",
            "metadata": metadata(name, component, namespace),
            "rules": rules_of(permissions),
        },
        {
            "apiVersion": f"{_API}/v1",
            "kind": "RoleBinding",
            "metadata": metadata(name, component, namespace),
            "roleRef": {"apiGroup": _API, "kind": "Role", "name": name},
            "subjects": [_subject(component)],
        },
    ]


def _subject(component: str) -> dict[str, Template]:
    return {"kind": "ServiceAccount", "name": component, "namespace": NAMESPACE}
