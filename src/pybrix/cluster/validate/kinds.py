"""The kinds that manifests may have: of the embedded server, of pybrix, and what the files themselves define. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.policies import BINDINGS, POLICIES
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.store.history import Stored
from pybrix.cluster.validate.suggestions import nearest

Data = dict[str, Any]
# Groups of Kubernetes itself: an embedded server has only some of their kinds, and the others are no mistake.
_KUBERNETES_SUFFIX = ".k8s.io"
_KUBERNETES_GROUPS = frozenset({"", "apps", "batch", "autoscaling", "policy", "extensions"})


class Kinds:
    """Which resource serves a kind.

    Args:
        definitions: CustomResourceDefinitions whose kinds are known from the start.
    """

    def __init__(self, definitions: Iterable[Mapping[str, Any]]) -> None:
        self._catalog = Catalog()
        self._own_groups = set[str]()
        for crd in definitions:
            self._own_groups.add(crd["spec"]["group"])
            self._catalog.serve_definition(crd)
        self._index()

    def _index(self) -> None:
        self._by_kind = {(t.group, t.version, t.kind): t for t in self._catalog.types()}

    def define(self, crd: Mapping[str, Any]) -> None:
        """Add what a definition, found valid, defines."""
        self._catalog.serve_definition(crd)
        self._index()

    def find(self, api_version: str, kind: str) -> ResourceType | None:
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def explain_unknown(self, api_version: str, kind: str) -> tuple[str, str, bool]:
        """Return (message, remedy, whether it is certainly a mistake) for a kind that is not served.

        A kind of a group that is known here in full is a mistake. Of other groups nothing is known.
        """
        group = api_version.rpartition("/")[0]
        named = f"{api_version} {kind}"
        versions = sorted({v for g, v, k in self._by_kind if g == group and k == kind})
        if versions:
            known = ", ".join(f"{group}/{v}" if group else v for v in versions)
            message = f"{named}: this version is not known, so the object is not checked"
            return message, f"known: {known}", group in self._own_groups or group == ""
        elsewhere = sorted({f"{g}/{v}" if g else v for g, v, k in self._by_kind if k == kind})
        if elsewhere and (group in _KUBERNETES_GROUPS or "." not in group or group in self._own_groups):
            return f"{named}: there is no such kind in this group", f"did you mean apiVersion: {elsewhere[0]}?", True
        if group in self._own_groups:
            near = nearest(kind, {k for g, _, k in self._by_kind if g == group})
            return f"{named}: there is no such kind", f"did you mean {near}?" if near else "", True
        near = nearest(kind, {k for g, _, k in self._by_kind if g == group})
        if near:
            return f"{named}: this kind is not known, so the object is not checked", f"did you mean {near}?", False
        groups = {g for g, _, _ in self._by_kind if g} - {group}
        near_group = nearest(group, groups) if group and not group.endswith(_KUBERNETES_SUFFIX) else ""
        remedy = f"did you mean the group {near_group}?" if near_group else ""
        return f"{named}: this kind is not known, so the object is not checked", remedy, False


class FixedPolicies:
    """Policies and bindings as a store has them; no namespace is known."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._objects: dict[str, dict[ObjectKey, Stored]] = {POLICIES: {}, BINDINGS: {}}
        for number, document in enumerate(documents):
            resource = POLICIES
            if document["kind"] == "ValidatingAdmissionPolicyBinding":
                resource = BINDINGS
            key = ObjectKey("", document["metadata"]["name"])
            stored = Stored(resource, key, Uid(str(number)), number, dict(document), b"")
            self._objects.setdefault(resource, {})[key] = stored

    def list(self, resource: str, namespace: str | None = None) -> tuple[Stored, ...]:
        return tuple(self._objects.get(resource, {}).values())

    def get(self, resource: str, key: ObjectKey) -> Stored | None:
        return self._objects.get(resource, {}).get(key)
