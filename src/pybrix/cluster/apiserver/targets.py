"""What the path of a request names: a resource, a namespace, an object, a door of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.failures import no_such_path
from pybrix.cluster.apiserver.resources import ResourceType

_NAMESPACE_DOORS = ("status", "finalize")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. `namespace` None means all namespaces; `name` "" the collection."""

    served: ResourceType
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace or "", self.name)

    def attributes(self, verb: str) -> Attributes:
        """Return what a request with this verb wants, for whoever decides about rights."""
        served = self.served
        namespace = self.name if served.storage == "namespaces" else self.namespace or ""
        return Attributes(verb, served.group, served.plural, self.subresource, namespace, self.name)

    def verb(self, method: str, *, is_watch: bool) -> str:
        """Return the API's word for what a request does.

        https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb
        """
        if method in ("GET", "HEAD"):
            if is_watch:
                return "watch"
            return "get" if self.name else "list"
        if method == "DELETE":
            return "delete" if self.name else "deletecollection"
        return _VERBS.get(method, method.lower())


def parse_target(catalog: Catalog, group: str, version: str, rest: list[str]) -> Target:
    """Return what the path behind `/apis/GROUP/VERSION/` names.

    Raises:
        NotFound: nothing is served there.
    """
    namespace: str | None = None
    is_namespace_itself = (
        group == "" and rest[0] == "namespaces" and (len(rest) < 3 or (len(rest) == 3 and rest[2] in _NAMESPACE_DOORS))
    )
    if rest[0] == "namespaces" and not is_namespace_itself:
        if len(rest) < 3:
            raise no_such_path()
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3:
        raise no_such_path()
    served = catalog.find(group, version, rest[0])
    if served is None or (namespace is not None and not served.is_namespaced):
        raise no_such_path()
    if not served.is_namespaced:
        namespace = ""
    name, subresource = [*rest, "", ""][1:3]
    if name and served.is_namespaced and namespace is None:
        raise no_such_path()
    known = (
        *served.subresources,
        *(("status",) if served.has_status else ()),
        *(("scale",) if served.scale is not None else ()),
    )
    if subresource and subresource not in known:
        raise no_such_path()
    return Target(served, namespace, name, subresource)
