"""Roles and their bindings: what is filled in and what is refused. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.failures import Cause, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.names import check_dns_subdomain

Object = dict[str, Any]
RBAC_GROUP = "rbac.authorization.k8s.io"
_SUBJECT_GROUPS = {"User": RBAC_GROUP, "Group": RBAC_GROUP, "ServiceAccount": ""}
_NO_SEGMENT = (".", "..")


def default_binding(data: Object) -> None:
    role = data.setdefault("roleRef", {})
    if not role.get("apiGroup"):
        role["apiGroup"] = RBAC_GROUP
    for subject in data.get("subjects", ()):
        group = _SUBJECT_GROUPS.get(subject.get("kind", ""), "")
        if group and not subject.get("apiGroup"):
            subject["apiGroup"] = group


def check_path_segment(path: str, name: str) -> list[Cause]:
    """Check a name that may hold anything that a path segment may: `system:node` is one."""
    if name in _NO_SEGMENT:
        return [invalid_value(path, name, f"may not be '{name}'")]
    return [invalid_value(path, name, f"may not contain '{c}'") for c in "/%" if c in name]


def check_role(data: Object) -> list[Cause]:
    return _check_rules(data.get("rules", []), is_namespaced=True)


def check_cluster_role(data: Object) -> list[Cause]:
    causes = _check_rules(data.get("rules", []), is_namespaced=False)
    aggregation = data.get("aggregationRule")
    if aggregation is not None and not aggregation.get("clusterRoleSelectors"):
        causes.append(required("aggregationRule.clusterRoleSelectors", "at least one clusterRoleSelector required"))
    return causes


def _check_rules(rules: list[Object], *, is_namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, rule in enumerate(rules):
        at = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.append(required(f"{at}.verbs", "verbs must contain at least one value"))
        paths = rule.get("nonResourceURLs")
        if paths:
            if is_namespaced:
                detail = "namespaced rules cannot apply to non-resource URLs"
                causes.append(invalid_value(f"{at}.nonResourceURLs", paths, detail))
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                causes.append(invalid_value(f"{at}.nonResourceURLs", paths, detail))
            continue
        for name, detail in (
            ("apiGroups", "resource rules must supply at least one api group"),
            ("resources", "resource rules must supply at least one resource"),
        ):
            if not rule.get(name):
                causes.append(required(f"{at}.{name}", detail))
    return causes


def check_role_binding(data: Object) -> list[Cause]:
    return _check_binding(data, ("Role", "ClusterRole"), has_namespace=True)


def check_cluster_role_binding(data: Object) -> list[Cause]:
    return _check_binding(data, ("ClusterRole",), has_namespace=False)


def _check_binding(data: Object, kinds: tuple[str, ...], *, has_namespace: bool) -> list[Cause]:
    role = data["roleRef"]
    causes: list[Cause] = []
    if role["apiGroup"] != RBAC_GROUP:
        causes.append(not_supported("roleRef.apiGroup", role["apiGroup"], (RBAC_GROUP,)))
    if role.get("kind") not in kinds:
        causes.append(not_supported("roleRef.kind", role.get("kind", ""), kinds))
    if not role.get("name"):
        causes.append(required("roleRef.name"))
    else:
        causes += check_path_segment("roleRef.name", role["name"])
    for index, subject in enumerate(data.get("subjects", ())):
        causes += _check_subject(subject, f"subjects[{index}]", has_namespace=has_namespace)
    return causes


def _check_subject(subject: Object, at: str, *, has_namespace: bool) -> list[Cause]:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    causes = [] if name else [required(f"{at}.name")]
    if kind not in _SUBJECT_GROUPS:
        return [*causes, not_supported(f"{at}.kind", kind, tuple(sorted(_SUBJECT_GROUPS)))]
    group = subject.get("apiGroup", "")
    if group != _SUBJECT_GROUPS[kind]:
        causes.append(not_supported(f"{at}.apiGroup", group, (_SUBJECT_GROUPS[kind],)))
    if kind == "ServiceAccount":
        if name:
            causes += check_dns_subdomain(f"{at}.name", name)
        # In a RoleBinding its own namespace is meant.
        if not has_namespace and not subject.get("namespace"):
            causes.append(required(f"{at}.namespace"))
    return causes


def check_binding_change(old: Object, new: Object) -> list[Cause]:
    if old.get("roleRef") == new.get("roleRef"):
        return []
    return [invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef")]
