"""Who asks: a bearer token or a client certificate of the cluster's own authority. Everyone known may do everything."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.cluster.apiserver.failures import failure
from pybrix.cluster.pki import ADMIN_GROUP, ADMIN_NAME, Pki

OPEN_PATHS = ("healthz", "livez", "readyz")


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]


def authenticate(headers: Mapping[str, str], tls: Any, pki: Pki) -> User:
    """Return who sends a request.

    Args:
        headers: of the request.
        tls: the connection's SSL object; its peer certificate was verified during the handshake.
        pki: whose token counts.

    Raises:
        Unauthorized: neither a valid token nor a certificate; a wrong token is refused even beside a certificate.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme:
        if scheme.lower() == "bearer" and pki.is_token(token.strip()):
            return User(ADMIN_NAME, (ADMIN_GROUP, "system:authenticated"))
        raise failure(401, "Unauthorized", "Unauthorized")
    certificate = tls.getpeercert() if isinstance(tls, ssl.SSLObject) else None
    if certificate:
        parts: Any = certificate.get("subject", ())
        subject = {name: value for part in parts for name, value in part}
        group = subject.get("organizationName")
        groups = (group, "system:authenticated") if group else ("system:authenticated",)
        return User(subject.get("commonName", "unknown"), groups)
    raise failure(401, "Unauthorized", "Unauthorized")
