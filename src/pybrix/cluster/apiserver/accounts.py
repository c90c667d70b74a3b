"""What service accounts are to pods and clients: the token in every container, and tokens on request.

https://kubernetes.io/docs/concepts/security/service-accounts/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.apiserver import admission
from pybrix.cluster.apiserver.failures import (
    Cause,
    bad_request,
    conflict,
    invalid,
    invalid_value,
    not_found,
)
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.resources import TYPES, ResourceType
from pybrix.cluster.apiserver.tokens import ISSUER, AccountTokens
from pybrix.cluster.store.history import Stored

Data = dict[str, Any]
_DEFAULT_LIFETIME_S, _SHORTEST_S, _LONGEST_S = 3600, 600, 1 << 32
_BOUND_KINDS = {"Pod": "pods", "Secret": "secrets"}
_REQUEST = ResourceType("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest", TYPES["TokenRequest"])


class TokenRequests:
    """Answer requests for tokens of service accounts: `serviceaccounts/NAME/token`."""

    def __init__(self, objects: Objects, tokens: AccountTokens) -> None:
        self._objects = objects
        self._tokens = tokens

    def answer(self, key: ObjectKey, sent: Any, options: WriteOptions) -> Data:
        """Return the request with its status: token and end.

        Raises:
            BadRequest, Invalid, NotFound (account or bound object), Conflict (another object of that name)
        """
        data = admission.decode(_REQUEST, sent, options)
        account = self._objects.read(self._objects.served("serviceaccounts"), key)
        if account.data["metadata"].get("deletionTimestamp"):
            raise conflict("serviceaccounts/token", "", key.name, "the service account is being deleted")
        spec = data.setdefault("spec", {})
        spec["audiences"] = [a for a in spec.get("audiences", []) if a] or [ISSUER]
        lifetime_s = spec.setdefault("expirationSeconds", _DEFAULT_LIFETIME_S)
        causes = _check_lifetime(lifetime_s)
        if causes:
            raise invalid("TokenRequest", _REQUEST.group, key.name, causes)
        reference = spec.get("boundObjectRef")
        bound = None if reference is None else self._bound(key, reference)
        now = self._objects.now()
        data["metadata"] |= {"name": key.name, "namespace": key.namespace, "creationTimestamp": now}
        if options.is_dry_run:
            return data
        issued = self._tokens.issue(account, spec["audiences"], lifetime_s, bound)
        data["status"] = {"token": issued.token, "expirationTimestamp": format_rfc3339(issued.expires_at)}
        return data

    def _bound(self, account: ObjectKey, reference: Mapping[str, Any]) -> Stored:
        kind, name, uid = (str(reference.get(part, "")) for part in ("kind", "name", "uid"))
        if kind not in _BOUND_KINDS or reference.get("apiVersion", "v1") != "v1":
            raise bad_request(f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}")
        resource = _BOUND_KINDS[kind]
        found = self._objects.store.get(resource, ObjectKey(account.namespace, name))
        if found is None:
            raise not_found(resource, "", name)
        if kind == "Pod" and found.data["spec"].get("serviceAccountName") != account.name:
            why = "to pod running with different serviceaccount name."
            raise bad_request(f'cannot bind token for serviceaccount "{account.name}" {why}')
        if uid and uid != found.uid:
            why = (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(resource, "", name, why)
        return found


def _check_lifetime(lifetime_s: int) -> list[Cause]:
    path = "spec.expirationSeconds"
    if lifetime_s < _SHORTEST_S:
        return [invalid_value(path, lifetime_s, "may not specify a duration less than 10 minutes")]
    if lifetime_s > _LONGEST_S:
        return [invalid_value(path, lifetime_s, "may not specify a duration larger than 2^32 seconds")]
    return []
