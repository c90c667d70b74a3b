"""Which checksums headers promise."""

from __future__ import annotations

import base64
import hashlib

import pytest

from pybrix.sidecar.artifacts.checksums import Algorithm, new_hasher, parse_headers, parse_hex, parse_labelled

DATA = b"some bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
SHA256_64 = base64.b64encode(bytes.fromhex(SHA256)).decode()
MD5_64 = base64.b64encode(bytes.fromhex(MD5)).decode()
AMZ = {"x-amz-request-id": "1"}


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"x-checksum-sha256": SHA256.upper()}, f"sha256:{SHA256}", id="Artifactory"),
        pytest.param({"x-checksum": f"sha256:{SHA256}"}, f"sha256:{SHA256}", id="labelled"),
        pytest.param({"x-linked-etag": f'"{SHA256}"'}, f"sha256:{SHA256}", id="the model hub"),
        pytest.param({"digest": f"md5={MD5_64},sha-256={SHA256_64}"}, f"sha256:{SHA256}", id="the best of RFC 3230"),
        pytest.param({"repr-digest": f"sha-256=:{SHA256_64}:"}, f"sha256:{SHA256}", id="RFC 9530"),
        pytest.param({"content-md5": MD5_64}, f"md5:{MD5}", id="RFC 1864"),
        pytest.param({"x-goog-hash": f"crc32c=AAAAAA==,md5={MD5_64}"}, f"md5:{MD5}", id="GCS"),
        pytest.param({**AMZ, "etag": f'"{MD5}"'}, f"md5:{MD5}", id="S3 in one piece"),
        pytest.param({**AMZ, "etag": f'"{MD5}-3"'}, None, id="S3 in parts"),
        pytest.param({"etag": f'"{MD5}"'}, None, id="an ETag of another server"),
        pytest.param(
            {**AMZ, "etag": f'"{MD5}"', "x-amz-server-side-encryption": "aws:kms"}, None, id="S3 with a key of KMS"
        ),
        pytest.param(
            {**AMZ, "etag": f'"{MD5}"', "x-amz-server-side-encryption": "AES256"}, f"md5:{MD5}", id="S3 with its own"
        ),
        pytest.param(
            {"etag": f'"{MD5}"', "x-amz-server-side-encryption-customer-algorithm": "AES256"}, None, id="client's key"
        ),
        pytest.param({"x-amz-checksum-sha256": SHA256_64}, f"sha256:{SHA256}", id="S3's checksum"),
        pytest.param(
            {"x-amz-checksum-sha256": SHA256_64, "x-amz-checksum-type": "COMPOSITE"}, None, id="S3's, of its parts"
        ),
        pytest.param({"x-checksum-sha256": "zz", "content-md5": "!"}, None, id="nonsense"),
    ],
)
def test_headers(headers: dict[str, str], want: str | None) -> None:
    got = parse_headers(headers)
    assert (str(got) if got else None) == want


def test_git_names_files_by_size_and_content() -> None:
    hasher = new_hasher(Algorithm.GIT_BLOB, 12)
    hasher.update(b"what is up, doc?"[:12])
    assert hasher.hexdigest() == hashlib.sha1(b"blob 12\0what is up, ", usedforsecurity=False).hexdigest()


def test_texts() -> None:
    assert parse_labelled(f"sha256={SHA256}") == parse_hex(Algorithm.SHA256, SHA256)
    assert parse_labelled("crc32:00") is None
    assert parse_hex(Algorithm.SHA256, MD5) is None
