"""Checksums that URLs and sources promise, and the check of them. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_HEX = re.compile(r"[0-9a-f]+")


class Algorithm(StrEnum):
    """How a checksum is computed. The order is that of trust: of several, the first counts."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    GIT_BLOB = "git-blob"
    """SHA-1 of `blob SIZE\\0` and the bytes: how git, and so the model hub, names small files."""
    MD5 = "md5"


_HEX_LENGTHS = {Algorithm.SHA256: 64, Algorithm.SHA1: 40, Algorithm.GIT_BLOB: 40, Algorithm.MD5: 32}


@dataclass(frozen=True, slots=True)
class Checksum:
    """What some bytes add up to. `digest` is lower-case hexadecimal."""

    algorithm: Algorithm
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def new_hasher(algorithm: Algorithm, size_bytes: int) -> Hasher:
    """Start a checksum.

    Args:
        algorithm: which.
        size_bytes: of all the bytes; only `git-blob` needs it.
    """
    if algorithm is Algorithm.GIT_BLOB:
        hasher = hashlib.sha1(usedforsecurity=False)
        hasher.update(b"blob %d\0" % size_bytes)
        return hasher
    return hashlib.new(algorithm.value, usedforsecurity=False)


def parse_hex(algorithm: Algorithm, text: str) -> Checksum | None:
    """Return the checksum that a hexadecimal text is, or None."""
    digest = text.strip().lower()
    if len(digest) != _HEX_LENGTHS[algorithm] or not _HEX.fullmatch(digest):
        return None
    return Checksum(algorithm, digest)


def parse_base64(algorithm: Algorithm, text: str) -> Checksum | None:
    """Return the checksum that a base64 text is, or None."""
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return parse_hex(algorithm, raw.hex())


def parse_headers(headers: Mapping[str, str]) -> Checksum | None:
    """Return the best whole-file checksum among an answer's headers, or None.

    Sources: `x-checksum-*` (Artifactory, Nexus), `x-linked-etag` (model hub), `x-amz-checksum-sha256` and
    `x-amz-checksum-type` (S3: composite ones end in `-N`), `x-goog-hash` (GCS), `repr-digest` (RFC 9530), `digest`
    (RFC 3230), `content-md5` (RFC 1864), and S3's ETag where S3 documents it to be an MD5. `Digest`, `Content-Digest`
    and `Content-MD5` speak of the body sent, so the caller passes only headers of whole answers.

    Args:
        headers: with lower-case names.
    """
    found = [checksum for checksum in _candidates(headers) if checksum is not None]
    order = list(Algorithm)
    return min(found, key=lambda checksum: order.index(checksum.algorithm), default=None)


def _candidates(headers: Mapping[str, str]) -> list[Checksum | None]:
    found = [
        parse_hex(Algorithm.SHA256, headers.get("x-checksum-sha256", "")),
        parse_hex(Algorithm.SHA1, headers.get("x-checksum-sha1", "")),
        parse_hex(Algorithm.MD5, headers.get("x-checksum-md5", "")),
        parse_labelled(headers.get("x-checksum", "")),
        parse_hex(Algorithm.SHA256, headers.get("x-linked-etag", "").strip('"')),
        parse_base64(Algorithm.MD5, headers.get("content-md5", "")),
        s3_md5(headers),
    ]
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT":
        found.append(parse_base64(Algorithm.SHA256, headers.get("x-amz-checksum-sha256", "")))
    for name in ("repr-digest", "digest", "x-goog-hash"):
        for part in headers.get(name, "").split(","):
            label, _, value = part.strip().partition("=")
            match label.lower():
                case "sha-256":
                    found.append(parse_base64(Algorithm.SHA256, value.strip(":")))
                case "md5":
                    found.append(parse_base64(Algorithm.MD5, value))
    return found


def parse_labelled(text: str) -> Checksum | None:
    """Return the checksum that `sha256:HEX` or `sha256=HEX` is, or None."""
    label, _, value = text.replace("=", ":", 1).partition(":")
    try:
        return parse_hex(Algorithm(label.strip().lower()), value)
    except ValueError:
        return None


def s3_md5(headers: Mapping[str, str]) -> Checksum | None:
    """Return the MD5 that an S3 object's ETag is, or None where it is something else.

    It is one for objects that were put in one piece and are not encrypted with a key of KMS or of the client
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    is_s3 = any(name.startswith("x-amz-") for name in headers)
    has_own_key = headers.get("x-amz-server-side-encryption", "AES256") != "AES256" or any(
        name.startswith("x-amz-server-side-encryption-customer") for name in headers
    )
    if not is_s3 or has_own_key:
        return None
    return parse_hex(Algorithm.MD5, headers.get("etag", "").strip('"'))
