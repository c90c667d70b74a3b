"""AWS Signature Version 4 for requests without a body, as S3 and what speaks its API want it. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. A test holds it against
botocore's own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from pybrix.sidecar.artifacts.credentials import BucketCredentials

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_UNRESERVED = "-._~"


def encode_path(key: str) -> str:
    """Return an object's key as the path of a URL: what is not unreserved is escaped, once, and `/` stays."""
    return quote(key, safe="/" + _UNRESERVED)


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a query as it is signed: sorted, everything escaped that is not unreserved."""
    escaped = [(quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(escaped))


def sign(
    credentials: BucketCredentials,
    region: str,
    method: str,
    url: str,
    now: datetime,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers that make a request of these keys; only `more` for an anonymous one.

    Args:
        credentials: whose request it is.
        region: that of the endpoint.
        method: the HTTP method.
        url: absolute; path and query exactly as they are sent, made with `encode_path` and `encode_query`.
        now: when it is sent; servers take it within 15 minutes.
        more: further headers with lower-case names; S3 wants every `x-amz-` header signed.
    """
    if not credentials.access_key:
        return dict(more or {})
    parts = urlsplit(url)
    timestamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {**(more or {}), "host": parts.netloc, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": timestamp}
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [
            method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{headers[name].strip()}" for name in sorted(headers)),
            "",
            names,
            _EMPTY_SHA256,
        ]
    )
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + credentials.secret_key.encode()
    for part in (timestamp[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    del headers["host"]
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return headers
