"""Which requests an admission policy concerns, and what its expressions read of them. Pure; reads a store.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#match-criteria
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.structural.cel import plain
from pybrix.cluster.apiserver.users import SYSTEM, User
from pybrix.cluster.store.history import Stored

Data = dict[str, Any]
ADMISSION_GROUP = "admissionregistration.k8s.io"
"""Policies and bindings: no policy concerns them, so that nobody locks the door to them."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a request is about to do. `new` is None for a deletion, `old` for a creation."""

    served: ResourceType
    operation: str
    key: ObjectKey
    new: Data | None
    old: Data | None
    subresource: str = ""
    is_dry_run: bool = False
    user: User = SYSTEM

    def showing(self, new: Data | None, old: Data | None) -> Change:
        """Return the same request with its object in another form."""
        return Change(
            self.served, self.operation, self.key, new, old, self.subresource, self.is_dry_run, user=self.user
        )


class PolicySource(Protocol):
    """Where policies, their bindings and namespaces are read: a store."""

    def list(self, resource: str, namespace: str | None = None) -> Sequence[Stored]: ...

    def get(self, resource: str, key: ObjectKey) -> Stored | None: ...


class Matcher:
    """Says which requests a policy or a binding means."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source

    def concerns(self, match: Any, change: Change, *, is_binding: bool = False) -> bool:
        """Say whether `matchConstraints` of a policy, or `matchResources` of its binding, cover a request."""
        if not isinstance(match, Mapping):
            return False
        rules = match.get("resourceRules") or ()
        if any(_matches(rule, change) for rule in match.get("excludeResourceRules") or ()):
            return False
        # A binding without rules narrows nothing.
        if not any(_matches(rule, change) for rule in rules) and (rules or not is_binding):
            return False
        about = [o for o in (change.new, change.old) if o is not None]
        if not any(_selects(match.get("objectSelector"), o["metadata"].get("labels")) for o in about):
            return False
        if not match.get("namespaceSelector"):
            return True
        if change.served.storage == "namespaces":
            return any(_selects(match["namespaceSelector"], o["metadata"].get("labels")) for o in about)
        namespace = self._namespace(change)
        return namespace is None or _selects(match["namespaceSelector"], namespace["metadata"].get("labels"))

    def inputs(self, change: Change) -> Data:
        """Return what expressions may read: object, oldObject, request, params, namespaceObject."""
        served = change.served
        kind = {"group": served.group, "version": served.version, "kind": served.kind}
        resource = {"group": served.group, "version": served.version, "resource": served.plural}
        request = {
            "kind": kind,
            "resource": resource,
            "subResource": change.subresource,
            "requestKind": kind,
            "requestResource": resource,
            "requestSubResource": change.subresource,
            "name": change.key.name,
            "namespace": change.key.namespace,
            "operation": change.operation,
            "userInfo": change.user.info(),
            "dryRun": change.is_dry_run,
        }
        return {
            "object": plain(change.new),
            "oldObject": plain(change.old),
            "request": request,
            "params": None,
            "namespaceObject": plain(self._namespace(change)),
        }

    def _namespace(self, change: Change) -> Data | None:
        if not change.served.is_namespaced:
            return None
        stored = self._source.get("namespaces", ObjectKey("", change.key.namespace))
        return None if stored is None else stored.data


def _matches(rule: Mapping[str, Any], change: Change) -> bool:
    served = change.served

    def has(name: str, word: str) -> bool:
        listed = rule.get(name) or ()
        return "*" in listed or word in listed

    names = rule.get("resourceNames") or ()
    scope = rule.get("scope") or "*"
    return (
        has("operations", change.operation)
        and has("apiGroups", served.group)
        and has("apiVersions", served.version)
        and any(_is_resource(r, served.plural, change.subresource) for r in rule.get("resources") or ())
        and (not names or change.key.name in names)
        and scope in ("*", "Namespaced" if served.is_namespaced else "Cluster")
    )


def _is_resource(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return (
        resource in ("*", plural)
        and part in (("*", subresource) if "/" in pattern else ("",))
        and (bool(part) or not subresource)
    )


def _selects(selector: Any, labels: Mapping[str, str] | None) -> bool:
    if not selector:
        return True
    compiled = compile_label_selector(msgspec.convert(selector, LabelSelector))
    return compiled is None or compiled.matches(dict(labels or {}))
