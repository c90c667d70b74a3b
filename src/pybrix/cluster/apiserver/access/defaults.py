"""The roles that every cluster with RBAC has, and who has them from the start.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.access.authorizer import MASTERS, RBAC
from pybrix.cluster.apiserver.objects import Objects

Data = dict[str, Any]
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_DISCOVERY = ["/", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_HEALTH = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_SCALED = ("deployments", "replicasets", "statefulsets")
_WORKLOADS = ["daemonsets", *_SCALED, *(f"{name}/scale" for name in _SCALED)]
_CORE = ["configmaps", "endpoints", "events", "persistentvolumeclaims", "pods", "serviceaccounts", "services"]
_STATUS = ["pods/log", "pods/status", "services/status", "namespaces"]
_OTHERS = (
    ("apps", _WORKLOADS),
    ("autoscaling", ["horizontalpodautoscalers"]),
    ("batch", ["cronjobs", "jobs"]),
    ("discovery.k8s.io", ["endpointslices"]),
    ("networking.k8s.io", ["ingresses", "networkpolicies"]),
    ("policy", ["poddisruptionbudgets"]),
)


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Data:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _role(name: str, rules: list[Data], *, aggregate_to: str = "") -> Data:
    labels = {**_LABELS, **({f"{RBAC}/aggregate-to-{aggregate_to}": "true"} if aggregate_to else {})}
    return {"metadata": {"name": name, "labels": labels}, "rules": rules}


def _aggregated(name: str, *parts: str, aggregate_to: str = "") -> Data:
    selectors = [{"matchLabels": {f"{RBAC}/aggregate-to-{part}": "true"}} for part in parts]
    return {**_role(name, [], aggregate_to=aggregate_to), "aggregationRule": {"clusterRoleSelectors": selectors}}


DEFAULT_ROLES: tuple[Data, ...] = (
    _role("cluster-admin", [_rule("*", ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]),
    _role(
        "system:basic-user",
        [
            _rule("authorization.k8s.io", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
    ),
    _role(
        "system:discovery",
        [
            {
                "nonResourceURLs": [*_DISCOVERY, *_HEALTH],
                "verbs": ["get"],
            }
        ],
    ),
    _role("system:public-info-viewer", [{"nonResourceURLs": _HEALTH, "verbs": ["get"]}]),
    _role(
        "system:auth-delegator",
        [
            _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
        ],
    ),
    _role(
        "system:aggregate-to-view",
        [_rule("", [*_CORE, *_STATUS], _READ), *(_rule(group, found, _READ) for group, found in _OTHERS)],
        aggregate_to="view",
    ),
    _role(
        "system:aggregate-to-edit",
        [
            _rule("", ["pods/exec", "pods/portforward", "secrets"], _READ),
            _rule("", ["serviceaccounts"], ["impersonate"]),
            _rule("", [*_CORE, "secrets", "pods/exec", "pods/portforward"], _WRITE),
            _rule("", ["pods/eviction", "serviceaccounts/token"], ["create"]),
            *(_rule(group, found, _WRITE) for group, found in _OTHERS),
            _rule("coordination.k8s.io", ["leases"], [*_READ, *_WRITE]),
        ],
        aggregate_to="edit",
    ),
    _role(
        "system:aggregate-to-admin",
        [
            _rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
            _rule(RBAC, ["rolebindings", "roles"], [*_READ, *_WRITE]),
        ],
        aggregate_to="admin",
    ),
    _aggregated("admin", "admin", "edit", "view"),
    _aggregated("edit", "edit", "view", aggregate_to="admin"),
    _aggregated("view", "view", aggregate_to="edit"),
)
_AUTHENTICATED = "system:authenticated"
DEFAULT_BINDINGS = {
    "cluster-admin": (MASTERS,),
    "system:basic-user": (_AUTHENTICATED,),
    "system:discovery": (_AUTHENTICATED,),
    "system:public-info-viewer": (_AUTHENTICATED, "system:unauthenticated"),
}


def ensure_roles(objects: Objects) -> None:
    """Create the default roles and bindings that are missing; what somebody changed stays as it is."""
    for role in DEFAULT_ROLES:
        _ensure(objects, f"clusterroles.{RBAC}", role)
    for name, groups in DEFAULT_BINDINGS.items():
        subjects = [{"kind": "Group", "apiGroup": RBAC, "name": group} for group in groups]
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name, "labels": _LABELS}, "subjects": subjects, "roleRef": reference}
        _ensure(objects, f"clusterrolebindings.{RBAC}", binding)


def _ensure(objects: Objects, resource: str, data: Data) -> None:
    if objects.store.get(resource, ObjectKey("", data["metadata"]["name"])) is None:
        objects.create(resource, data, field_manager="kube-apiserver")
