"""Tokens of service accounts: signed texts (JWT) that name the account, the audience, the end, and a pod to end with.

A token counts for as long as its account and its pod are there under the same UIDs: what is deleted takes its tokens
along. https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
"""

from __future__ import annotations

import functools
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.types import Options

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock, parse_rfc3339
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""Who signs, and the audience of a token that names none."""
POD_LEEWAY_S = 60.0
"""How long tokens of a pod outlive the moment at which it should have ended."""
_ALGORITHM = "ES256"
_PRIVATE = "kubernetes.io"
_REMEMBERED = 1024
# Times are compared with the cluster's clock, audiences with the server's; the library checks neither.
_OPTIONS: Options = {
    "require": ["exp", "nbf", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}


class TokenError(ValueError):
    """A token that does not count; the message says why."""


@dataclass(frozen=True, slots=True)
class Issued:
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a token stands for. `pod` and `pod_uid` are empty for a token that is bound to none."""

    account: ObjectKey
    uid: str
    token_id: str
    pod: str = ""
    pod_uid: str = ""


class AccountTokens:
    """Sign tokens and tell whom they stand for.

    Args:
        key_pem: private key on the curve P-256.
        store: where accounts and pods are looked up.
        clock: time of issue and end.
        chance: source of token ids.
    """

    def __init__(self, key_pem: bytes, store: Store, *, clock: Clock, chance: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("tokens are signed by an elliptic-curve key")
        self._key, self._public_key = key, key.public_key()
        # Checking a signature costs as much as the rest of a request.
        self._claims = functools.lru_cache(_REMEMBERED)(self._signed_claims)

    def issue(self, account: Stored, audiences: Sequence[str], lifetime_s: int, bound: Stored | None) -> Issued:
        """Return a token of an account, bound to a pod or Secret where one is given."""
        now = self._clock.now().astimezone(UTC).replace(microsecond=0)
        expires_at = now + timedelta(seconds=lifetime_s)
        private: dict[str, Any] = {
            "namespace": account.key.namespace,
            "serviceaccount": {"name": account.key.name, "uid": account.uid},
        }
        if bound is not None:
            private[str(bound.data["kind"]).lower()] = {"name": bound.key.name, "uid": bound.uid}
        claims = {
            "iss": ISSUER,
            "sub": subject(account.key),
            "aud": list(audiences) or [ISSUER],
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            _PRIVATE: private,
        }
        return Issued(jwt.encode(claims, self._key, _ALGORITHM), expires_at)

    def holder(self, token: str) -> Holder:
        """Return whom a token stands for.

        Raises:
            TokenError: it is not one of ours, is for somebody else, has ended, or what it is bound to has.
        """
        claims = self._claims(token)
        now_s = self._clock.now().timestamp()
        if ISSUER not in claims["aud"]:
            raise TokenError("the token is for another audience")
        if not claims["nbf"] <= now_s + 1 or now_s >= claims["exp"]:
            raise TokenError("the token has expired")
        private = claims[_PRIVATE]
        namespace, account = private["namespace"], private["serviceaccount"]
        key = ObjectKey(namespace, account["name"])
        self._require("serviceaccounts", key, account["uid"], leeway_s=0.0)
        pod, secret = private.get("pod", {}), private.get("secret")
        if pod:
            self._require("pods", ObjectKey(namespace, pod["name"]), pod["uid"], leeway_s=POD_LEEWAY_S)
        if secret:
            self._require("secrets", ObjectKey(namespace, secret["name"]), secret["uid"], leeway_s=0.0)
        return Holder(key, account["uid"], claims["jti"], pod.get("name", ""), pod.get("uid", ""))

    def _require(self, resource: str, key: ObjectKey, uid: str, *, leeway_s: float) -> None:
        found = self._store.get(resource, key)
        if found is None or found.uid != uid:
            raise TokenError(f"the token is bound to one of the {resource} that is gone: {key}")
        ends = found.data["metadata"].get("deletionTimestamp")
        if ends and parse_rfc3339(ends) + timedelta(seconds=leeway_s) < self._clock.now():
            raise TokenError(f"the token is bound to one of the {resource} that is being deleted: {key}")

    def _signed_claims(self, token: str) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(token, self._public_key, [_ALGORITHM], issuer=ISSUER, options=_OPTIONS)
        except jwt.InvalidTokenError as err:
            raise TokenError(f"not a token of this cluster: {err}") from err
        return claims


def subject(account: ObjectKey) -> str:
    """Return the user name of a service account."""
    return f"system:serviceaccount:{account.namespace}:{account.name}"
