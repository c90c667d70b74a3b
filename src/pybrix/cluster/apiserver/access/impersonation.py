"""Acting as another user: `kubectl --as`.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
"""

from __future__ import annotations

from multidict import CIMultiDictProxy

from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.access.authorizer import Authorizer, require
from pybrix.cluster.apiserver.failures import bad_request
from pybrix.cluster.apiserver.users import User

_USER, _GROUP, _UID, _EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"
_ACCOUNT = "system:serviceaccount:"


def impersonated(headers: CIMultiDictProxy[str], user: User, authorizer: Authorizer) -> User:
    """Return whom a request acts as: its sender, or the one that its headers name.

    Raises:
        BadRequest: groups or more are named without a user.
        Forbidden: the sender may not act as that user.
    """
    if not any(header[:12].lower() == "impersonate-" for header in headers):
        return user
    name = headers.get(_USER, "")
    groups = tuple(headers.getall(_GROUP, ()))
    extra: dict[str, tuple[str, ...]] = {}
    for header in dict.fromkeys(headers):
        if header.lower().startswith(_EXTRA.lower()):
            extra[header[len(_EXTRA) :].lower()] = tuple(headers.getall(header))
    if not name:
        if groups or extra or headers.get(_UID):
            raise bad_request("requested impersonation of groups, a UID or extra without impersonating a user")
        return user
    if name.startswith(_ACCOUNT):
        namespace, _, account = name.removeprefix(_ACCOUNT).partition(":")
        require(authorizer, user, Attributes("impersonate", "", "serviceaccounts", namespace=namespace, name=account))
        if not groups:
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    else:
        require(authorizer, user, Attributes("impersonate", "", "users", name=name))
    for group in groups:
        if not group.startswith("system:serviceaccounts") or not name.startswith(_ACCOUNT):
            require(authorizer, user, Attributes("impersonate", "", "groups", name=group))
    everyone = "system:unauthenticated" if name == "system:anonymous" else "system:authenticated"
    groups = groups if everyone in groups else (*groups, everyone)
    return User(name, groups, headers.get(_UID, ""), extra)
