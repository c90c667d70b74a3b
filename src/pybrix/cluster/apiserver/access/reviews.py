"""Questions about users and rights: objects that are answered and never stored.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pybrix.cluster.apiserver import admission
from pybrix.cluster.apiserver.access.attributes import Attributes
from pybrix.cluster.apiserver.access.authorizer import Authorizer
from pybrix.cluster.apiserver.auth import account_user
from pybrix.cluster.apiserver.failures import Cause, bad_request, invalid, invalid_value
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.tokens import ISSUER, AccountTokens, TokenError
from pybrix.cluster.apiserver.users import User

Data = dict[str, Any]


class Reviews:
    """Answers reviews of who somebody is and what they may do."""

    def __init__(self, authorizer: Authorizer, tokens: AccountTokens) -> None:
        self._authorizer = authorizer
        self._tokens = tokens
        self._answers: dict[str, Callable[[Data, User], Data]] = {
            "SelfSubjectReview": lambda _, user: {"userInfo": user.info()},
            "SelfSubjectAccessReview": lambda spec, user: self._decide(spec, user),
            "SubjectAccessReview": lambda spec, _: self._decide(spec, _subject(spec)),
            "LocalSubjectAccessReview": lambda spec, _: self._decide(spec, _subject(spec)),
            "SelfSubjectRulesReview": self._list_rules,
            "TokenReview": self._review_token,
        }

    def answers(self, served: ResourceType) -> bool:
        """Say whether objects of a resource are questions."""
        return served.kind in self._answers and not served.is_custom

    def answer(self, served: ResourceType, namespace: str, sent: Any, options: WriteOptions) -> Data:
        """Return the review with its status.

        Raises:
            BadRequest, Invalid
        """
        data = admission.decode(served, sent, options)
        spec = data.get("spec", {})
        if served.kind == "LocalSubjectAccessReview":
            asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
            if asked != namespace:
                detail = "must match the namespace of the request"
                raise invalid(
                    served.kind, served.group, "", [invalid_value("spec.resourceAttributes.namespace", asked, detail)]
                )
        data["status"] = self._answers[served.kind](spec, options.user)
        return data

    def _decide(self, spec: Data, user: User) -> Data:
        about, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if (about is None) == (path is None):
            detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            raise invalid("SubjectAccessReview", "authorization.k8s.io", "", [Cause("spec.resourceAttributes", detail)])
        decision = self._authorizer.decide(user, _attributes(about or {}) if path is None else _of_path(path))
        return {"allowed": decision.is_allowed, **({"reason": decision.reason} if decision.reason else {})}

    def _list_rules(self, spec: Data, user: User) -> Data:
        namespace = spec.get("namespace", "")
        if not namespace:
            raise bad_request("no namespace on request")
        rules = self._authorizer.rules_of(user, namespace)
        about = [_shown(r, ("verbs", "apiGroups", "resources", "resourceNames")) for r in rules if r.get("resources")]
        paths = [_shown(r, ("verbs", "nonResourceURLs")) for r in rules if r.get("nonResourceURLs")]
        return {"resourceRules": about, "nonResourceRules": paths, "incomplete": False}

    def _review_token(self, spec: Data, _: User) -> Data:
        token, audiences = spec.get("token", ""), spec.get("audiences") or [ISSUER]
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        try:
            holder = self._tokens.holder(token)
        except TokenError as err:
            return {"authenticated": False, "user": {}, "error": str(err)}
        accepted = [a for a in audiences if a == ISSUER]
        if not accepted:
            return {"authenticated": False, "user": {}, "error": f"the token is for another audience than {audiences}"}
        return {"authenticated": True, "user": account_user(holder).info(), "audiences": accepted}


def _attributes(about: Mapping[str, Any]) -> Attributes:
    return Attributes(
        about.get("verb", ""),
        about.get("group", ""),
        about.get("resource", ""),
        about.get("subresource", ""),
        about.get("namespace", ""),
        about.get("name", ""),
    )


def _of_path(about: Mapping[str, Any]) -> Attributes:
    return Attributes(about.get("verb", ""), path=about.get("path") or "/")


def _subject(spec: Mapping[str, Any]) -> User:
    name, groups = spec.get("user", ""), tuple(spec.get("groups") or ())
    if not name and not groups:
        cause = Cause("spec.user", "at least one of user or group must be specified")
        raise invalid("SubjectAccessReview", "authorization.k8s.io", "", [cause])
    extra = {k: tuple(v) for k, v in (spec.get("extra") or {}).items() if isinstance(v, list)}
    return User(name, groups, spec.get("uid", ""), extra)


def _shown(rule: Mapping[str, Any], fields: tuple[str, ...]) -> Data:
    return {name: list(rule[name]) for name in fields if rule.get(name)}
