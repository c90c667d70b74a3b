"""What the server serves, as clients ask: group and resource lists, old and aggregated. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.resources import ResourceType

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}


def wants_aggregated(accept: str) -> bool:
    """Say whether a client asks for aggregated discovery in the version served here."""
    return any(
        "as=APIGroupDiscoveryList" in part and "v=v2" in part.replace("v=v2beta1", "") for part in accept.split(",")
    )


def print_versions() -> dict[str, Any]:
    """Return `/api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _group(group: str, versions: list[str]) -> dict[str, Any]:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def print_groups(catalog: Catalog) -> dict[str, Any]:
    """Return `/apis`."""
    groups = [_group(group, versions) for group, versions in catalog.group_versions().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def print_group(catalog: Catalog, group: str) -> dict[str, Any] | None:
    """Return `/apis/GROUP`."""
    versions = catalog.group_versions().get(group)
    if not group or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def _of(catalog: Catalog, group: str, version: str) -> list[ResourceType]:
    return sorted(
        (t for t in catalog.types() if (t.group, t.version) == (group, version)), key=lambda served: served.plural
    )


def _subresources(served: ResourceType) -> Iterable[tuple[str, dict[str, str], list[str]]]:
    """Yield (name, kind, verbs)."""
    own = {"group": served.group, "version": served.version, "kind": served.kind}
    if served.has_status:
        yield "status", own, ["get", "patch", "update"]
    if served.scale is not None:
        yield "scale", _SCALE, ["get", "patch", "update"]
    for name in served.subresources:
        match name:
            case "log":
                yield name, own, ["get"]
            case "binding":
                yield name, {"group": "", "version": "v1", "kind": "Binding"}, ["create"]
            case "eviction":
                yield name, {"group": "policy", "version": "v1", "kind": "Eviction"}, ["create"]
            case "token":
                kind = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
                yield name, kind, ["create"]
            case "finalize":
                yield name, own, ["update"]


def print_resources(catalog: Catalog, group: str, version: str) -> dict[str, Any] | None:
    """Return `/api/v1` or `/apis/GROUP/VERSION`."""
    found = _of(catalog, group, version)
    if not found:
        return None
    resources: list[dict[str, Any]] = []
    for served in found:
        entry: dict[str, Any] = {
            "name": served.plural,
            "singularName": served.singular,
            "namespaced": served.is_namespaced,
            "kind": served.kind,
            "verbs": list(served.verbs),
        }
        if served.short_names:
            entry["shortNames"] = list(served.short_names)
        if served.categories:
            entry["categories"] = list(served.categories)
        resources.append(entry)
        for name, kind, verbs in _subresources(served):
            below: dict[str, Any] = {
                "name": f"{served.plural}/{name}",
                "singularName": "",
                "namespaced": served.is_namespaced,
                "kind": kind["kind"],
                "verbs": verbs,
            }
            if (kind["group"], kind["version"]) != (served.group, served.version):
                below |= {"group": kind["group"], "version": kind["version"]}
            resources.append(below)
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def print_aggregated(catalog: Catalog, *, is_core: bool) -> dict[str, Any]:
    """Return everything below `/api` or `/apis` in one document."""
    items = []
    for group, versions in catalog.group_versions().items():
        if (group == "") != is_core:
            continue
        entries = [
            {
                "version": version,
                "resources": [_aggregated(t) for t in _of(catalog, group, version)],
                "freshness": "Current",
            }
            for version in versions
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated(served: ResourceType) -> dict[str, Any]:
    own = {"group": served.group, "version": served.version, "kind": served.kind}
    entry: dict[str, Any] = {
        "resource": served.plural,
        "responseKind": own,
        "scope": "Namespaced" if served.is_namespaced else "Cluster",
        "singularResource": served.singular,
        "verbs": list(served.verbs),
    }
    if served.short_names:
        entry["shortNames"] = list(served.short_names)
    if served.categories:
        entry["categories"] = list(served.categories)
    below = [{"subresource": name, "responseKind": kind, "verbs": verbs} for name, kind, verbs in _subresources(served)]
    if below:
        entry["subresources"] = below
    return entry
