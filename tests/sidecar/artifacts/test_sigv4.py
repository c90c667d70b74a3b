"""Signatures are those that botocore makes."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AwsCredentials
from hypothesis import given
from hypothesis import strategies as st

from pybrix.sidecar.artifacts.credentials import BucketCredentials
from pybrix.sidecar.artifacts.sigv4 import encode_path, encode_query, sign

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def signature_of_botocore(keys: BucketCredentials, region: str, method: str, url: str, more: dict[str, str]) -> str:
    """Return the Authorization that botocore computes for the same request at the same time."""
    request = AWSRequest(method=method, url=url, headers=dict(more))
    aws = AwsCredentials(keys.access_key, keys.secret_key, keys.session_token or None)
    auth = S3SigV4Auth(aws, "s3", region)
    request.context["timestamp"] = NOW.strftime("%Y%m%dT%H%M%SZ")
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    if keys.session_token:
        request.headers["X-Amz-Security-Token"] = keys.session_token
    request.headers["X-Amz-Content-SHA256"] = auth.payload(request)
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    names = auth.signed_headers(auth.headers_to_sign(request))
    return f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize("token", ["", "session/token=="])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@given(key=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), prefix=st.text("ab /+=&%ä"))
def test_as_botocore_signs(method: str, token: str, key: str, prefix: str) -> None:
    keys = BucketCredentials("AKID", "secret", token)
    path = encode_path(key.lstrip("/"))
    query = encode_query([("list-type", "2"), ("prefix", prefix)])
    more = {"x-amz-checksum-mode": "ENABLED"}
    for url in (f"https://bucket.s3.eu-west-1.amazonaws.com/{path}", f"http://127.0.0.1:9000/bucket/?{query}"):
        if "/../" in urlsplit(url).path or "/./" in urlsplit(url).path:
            continue
        headers = sign(keys, "eu-west-1", method, url, NOW, more)
        assert headers["Authorization"] == signature_of_botocore(keys, "eu-west-1", method, url, more)


def test_without_keys_nothing_is_signed() -> None:
    assert sign(BucketCredentials(), "r", "GET", "https://h/x", NOW, {"x-amz-a": "b"}) == {"x-amz-a": "b"}
