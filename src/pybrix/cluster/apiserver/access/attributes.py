"""What a request wants to do, in the words in which rights are given. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from dataclasses import dataclass

from pybrix.cluster.apiserver.failures import failure, qualified
from pybrix.cluster.apiserver.users import User
from pybrix.kube.errors import StatusError


@dataclass(frozen=True, slots=True)
class Attributes:
    """A verb on a resource, or on a `path` that is none. `namespace` "" means all of them, or none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def refusal(user: User, wanted: Attributes, why: str = "") -> StatusError:
    """Return the 403 that says who cannot do what."""
    more = f": {why}" if why else ""
    if wanted.path:
        message = f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"{more}'
        return failure(403, "Forbidden", message)
    where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    named = f' "{wanted.name}"' if wanted.name else ""
    message = (
        f'{qualified(wanted.resource, wanted.group)}{named} is forbidden: User "{user.name}" cannot {wanted.verb} '
        f'resource "{wanted.full_resource}" in API group "{wanted.group}" {where}{more}'
    )
    details = {"name": wanted.name, "group": wanted.group, "kind": wanted.resource}
    return failure(403, "Forbidden", message, details)
