"""Who may do what: everyone everything, or what roles and their bindings give.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.access.attributes import Attributes, refusal
from pybrix.cluster.apiserver.access.rules import Rule, allows
from pybrix.cluster.apiserver.users import User
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store

RBAC = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
_EVERYTHING: tuple[Rule, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and what says so."""

    is_allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    """Decides about requests."""

    def decide(self, user: User, wanted: Attributes) -> Decision: ...

    def rules_of(self, user: User, namespace: str) -> list[Rule]:
        """Return every rule that a user has in a namespace; "" for those that hold everywhere."""


def require(authorizer: Authorizer, user: User, wanted: Attributes) -> None:
    """Raise `Forbidden` when a user may not do something."""
    decision = authorizer.decide(user, wanted)
    if not decision.is_allowed:
        raise refusal(user, wanted, decision.reason)


class AllowAll:
    """Everyone who is known may do everything."""

    def decide(self, user: User, wanted: Attributes) -> Decision:
        return Decision(True, "authorization is off")

    def rules_of(self, user: User, namespace: str) -> list[Rule]:
        return list(_EVERYTHING)


class Rbac:
    """Roles and bindings of a store decide; the group `system:masters` may do everything."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def decide(self, user: User, wanted: Attributes) -> Decision:
        if MASTERS in user.groups:
            return Decision(True)
        for rule, source in self._rules(user, wanted.namespace):
            if allows(rule, wanted):
                return Decision(True, f"RBAC: allowed by {source}")
        return Decision(False)

    def rules_of(self, user: User, namespace: str) -> list[Rule]:
        if MASTERS in user.groups:
            return list(_EVERYTHING)
        return [rule for rule, _ in self._rules(user, namespace)]

    def rules_of_role(self, reference: Mapping[str, Any], namespace: str) -> list[Rule]:
        """Return the rules of the role that a `roleRef` names; none when it is not there."""
        name = str(reference.get("name", ""))
        if reference.get("kind") == "ClusterRole":
            found = self._store.get(f"clusterroles.{RBAC}", ObjectKey("", name))
        else:
            found = self._store.get(f"roles.{RBAC}", ObjectKey(namespace, name))
        if found is None:
            return []
        rules = list(found.data.get("rules") or ())
        for selector in (found.data.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
            compiled = compile_label_selector(msgspec.convert(selector, LabelSelector))
            for role in self._store.list(f"clusterroles.{RBAC}"):
                labels = role.data["metadata"].get("labels") or {}
                if compiled is not None and role is not found and compiled.matches(labels):
                    rules += role.data.get("rules") or ()
        return rules

    def _rules(self, user: User, namespace: str) -> Iterator[tuple[Rule, str]]:
        bindings: Sequence[Stored] = self._store.list(f"clusterrolebindings.{RBAC}")
        if namespace:
            bindings = [*bindings, *self._store.list(f"rolebindings.{RBAC}", namespace)]
        for binding in bindings:
            inside = binding.key.namespace
            if any(_means(subject, user, inside) for subject in binding.data.get("subjects") or ()):
                reference = binding.data["roleRef"]
                kind = "RoleBinding" if inside else "ClusterRoleBinding"
                source = f'{kind} "{binding.key}" of {reference.get("kind")} "{reference.get("name")}"'
                for rule in self.rules_of_role(reference, inside):
                    yield rule, source


def _means(subject: Mapping[str, Any], user: User, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject.get("name") == user.name)
        case "Group":
            return subject.get("name") in user.groups
        case "ServiceAccount":
            home = subject.get("namespace") or namespace
            return bool(home) and user.name == f"system:serviceaccount:{home}:{subject.get('name')}"
    return False
