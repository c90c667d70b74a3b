"""Who asks: the cluster's token, a service account's, or a client certificate of the cluster's own authority."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import structlog

from pybrix.cluster.apiserver.failures import failure
from pybrix.cluster.apiserver.tokens import AccountTokens, Holder, TokenError, subject
from pybrix.cluster.apiserver.users import User
from pybrix.cluster.pki import ADMIN_GROUP, ADMIN_NAME, Pki

_log = structlog.get_logger()
OPEN_PATHS = ("healthz", "livez", "readyz")


def authenticate(headers: Mapping[str, str], tls: Any, pki: Pki, tokens: AccountTokens) -> User:
    """Return who sends a request.

    Args:
        headers: of the request.
        tls: the connection's SSL object; its peer certificate was verified during the handshake.
        pki: whose token counts.
        tokens: those of service accounts.

    Raises:
        Unauthorized: neither a valid token nor a certificate; a wrong token is refused even beside a certificate.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme:
        if scheme.lower() == "bearer" and pki.is_token(token.strip()):
            return User(ADMIN_NAME, (ADMIN_GROUP, "system:authenticated"))
        try:
            return account_user(tokens.holder(token.strip()))
        except TokenError as err:
            # Only the log says why, as with any server: the client may be anyone.
            _log.info("token refused", error=str(err))
            raise failure(401, "Unauthorized", "Unauthorized") from err
    certificate = tls.getpeercert() if isinstance(tls, ssl.SSLObject) else None
    if certificate:
        parts: Any = certificate.get("subject", ())
        subject = {name: value for part in parts for name, value in part}
        group = subject.get("organizationName")
        groups = (group, "system:authenticated") if group else ("system:authenticated",)
        return User(subject.get("commonName", "unknown"), groups)
    raise failure(401, "Unauthorized", "Unauthorized")


def account_user(holder: Holder) -> User:
    """Return the user that the holder of a service account's token is."""
    namespace = holder.account.namespace
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    extra = {"credential-id": f"JTI={holder.token_id}"}
    if holder.pod:
        extra |= {"pod-name": holder.pod, "pod-uid": holder.pod_uid}
    described = {f"authentication.kubernetes.io/{name}": (value,) for name, value in extra.items()}
    return User(subject(holder.account), groups, holder.uid, described)
