"""Nobody gives away more than they have: what may be written into roles and bindings.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.access.authorizer import RBAC, Rbac
from pybrix.cluster.apiserver.access.rules import Rule, uncovered
from pybrix.cluster.apiserver.failures import forbidden
from pybrix.cluster.apiserver.matching import Change
from pybrix.cluster.apiserver.users import User

_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")
_MAX_NAMED = 5


def check_escalation(access: Rbac, change: Change) -> None:
    """Raise `Forbidden` when a role gets, or a binding gives, what its writer does not have."""
    served, new = change.served, change.new
    if served.group != RBAC or new is None:
        return
    if served.plural in _ROLES:
        if change.old is not None and change.old.get("rules") == new.get("rules"):
            return
        if not _may(access, change.user, "escalate", served.plural, change.key.namespace, change.key.name):
            _check(access, change, new.get("rules") or [])
    elif served.plural in _BINDINGS:
        if change.old is not None and change.old.get("subjects") == new.get("subjects"):
            return
        reference: dict[str, Any] = new["roleRef"]
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if not _may(access, change.user, "bind", plural, change.key.namespace, str(reference.get("name", ""))):
            _check(access, change, access.rules_of_role(reference, change.key.namespace))


def _may(access: Rbac, user: User, verb: str, plural: str, namespace: str, name: str) -> bool:
    return access.decide(user, Attributes(verb, RBAC, plural, namespace=namespace, name=name)).is_allowed


def _check(access: Rbac, change: Change, rules: list[Rule]) -> None:
    missing = uncovered(access.rules_of(change.user, change.key.namespace), rules)
    if missing:
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        who = f'user "{change.user.name}" (groups={list(change.user.groups)})'
        listed = ", ".join(missing[:_MAX_NAMED])
        why = f"{who} is attempting to grant RBAC permissions not currently held: {listed}{more}"
        raise forbidden(change.served.plural, RBAC, change.key.name, why)
