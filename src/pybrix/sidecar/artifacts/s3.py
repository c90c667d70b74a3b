"""Objects of S3, and of stores that speak its API, TOS among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree

from pybrix.sidecar.artifacts.checksums import parse_headers
from pybrix.sidecar.artifacts.credentials import BucketCredentials, Credentials
from pybrix.sidecar.artifacts.errors import ListingHostile, SourceInvalid, SourceMissing, SourceUnavailable
from pybrix.sidecar.artifacts.listing import Listing, RemoteFile, source_id
from pybrix.sidecar.artifacts.names import MOST_FILES, checked_path, checked_paths
from pybrix.sidecar.artifacts.sigv4 import encode_path, encode_query, sign
from pybrix.sidecar.artifacts.source import BucketSource, Provider, RemoteSource
from pybrix.sidecar.artifacts.transport import Transport, lower_headers
from pybrix.sidecar.artifacts.web import strong_etag

DEFAULT_S3_REGION = "us-east-1"
DEFAULT_TOS_REGION = "cn-beijing"
_REGION = re.compile(r"[A-Za-z0-9-]{1,40}")
# Answers then name the checksums that were stored with an object.
_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs each request for the time at which it is sent."""

    credentials: BucketCredentials = field(repr=False)
    region: str

    def headers(self, method: str, url: str, now: datetime) -> Mapping[str, str]:
        return sign(self.credentials, self.region, method, url, now, _CHECKSUMS)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's URL and who asks."""

    url: str
    signer: Signer


class S3Lister:
    """List objects of one kind of store.

    Args:
        transport: what asks.
        provider: S3 or TOS.
        endpoint: the store's URL; None for the provider's own, by region.
        region: None for the provider's first.
    """

    def __init__(
        self, transport: Transport, provider: Provider, endpoint: str | None = None, region: str | None = None
    ) -> None:
        self._transport = transport
        self._provider = provider
        self._endpoint = endpoint
        self._region = region

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return the object, or all objects below the prefix.

        Raises:
            ArtifactError: see `listing.Lister`.
        """
        assert isinstance(source, BucketSource)
        keys = credentials.tos() if self._provider is Provider.TOS else credentials.s3()
        bucket = plan_bucket(self._provider, source.bucket, keys, self._endpoint, self._region)
        files: tuple[RemoteFile, ...] | None = None
        if not source.key.endswith("/"):
            files = await self._object(source, bucket)
        if files is None:
            if source.checksum is not None:
                raise SourceMissing(f"{source.display}: there is no such object")
            files = await self._below(source, bucket)
        return Listing(
            display=source.display,
            scheme=str(self._provider),
            source_id=source_id(str(self._provider), bucket.url, source.key),
            revision=files[0].version if len(files) == 1 else "",
            files=files,
            authorizer=bucket.signer,
        )

    async def _object(self, source: BucketSource, bucket: Bucket) -> tuple[RemoteFile, ...] | None:
        """Return the one object, None when there is none of this key."""
        url = f"{bucket.url}/{encode_path(source.key)}"
        accepted = frozenset({200, 404})
        async with self._transport.open("HEAD", url, bucket.signer, source.display, accepted=accepted) as response:
            headers, status = lower_headers(response), response.status
        if status == 404:
            return None
        size = headers.get("content-length", "")
        path = checked_path(source.key.rpartition("/")[2])
        etag = strong_etag(headers.get("etag", ""))
        checksum = source.checksum or parse_headers(headers)
        version = headers.get("x-amz-version-id", "") or etag or headers.get("last-modified", "")
        return (RemoteFile(path, url, int(size) if size.isdecimal() else None, version, etag, checksum),)

    async def _below(self, source: BucketSource, bucket: Bucket) -> tuple[RemoteFile, ...]:
        prefix = source.key.rstrip("/") + "/"
        objects: list[_Object] = []
        token = ""
        while True:
            query = [("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")]
            if token:
                query.append(("continuation-token", token))
            url = f"{bucket.url}/?{encode_query(query)}"
            body, _ = await self._transport.fetch(url, bucket.signer, source.display)
            page = _parse_page(body, source.display)
            objects += page.objects
            if len(objects) > MOST_FILES:
                raise ListingHostile(f"{source.display}: more than {MOST_FILES} objects")
            if not page.next_token or page.next_token == token:
                break
            token = page.next_token
        # A key that ends in `/` is how consoles draw an empty directory.
        objects = [found for found in objects if found.key.startswith(prefix) and not found.key.endswith("/")]
        if not objects:
            raise SourceMissing(f"{source.display}: there is neither such an object nor objects below it")
        paths = checked_paths(found.key.removeprefix(prefix) for found in objects)
        return tuple(
            RemoteFile(
                path, f"{bucket.url}/{encode_path(found.key)}", found.size_bytes, found.etag, strong_etag(found.etag)
            )
            for path, found in zip(paths, objects, strict=True)
        )


def plan_bucket(
    provider: Provider, name: str, keys: BucketCredentials, endpoint: str | None, region: str | None
) -> Bucket:
    """Return where a bucket is: its own host at AWS and TOS, else the first part of the endpoint's path.

    Args:
        provider: S3 or TOS.
        name: the bucket's.
        keys: whose request it is; their endpoint and region count before the others.
        endpoint: None for the provider's own.
        region: None for the provider's first.

    Raises:
        SourceInvalid: the endpoint is none.
    """
    is_tos = provider is Provider.TOS
    region = keys.region or region or (DEFAULT_TOS_REGION if is_tos else DEFAULT_S3_REGION)
    if not _REGION.fullmatch(region):
        raise SourceInvalid("the store's region is no name of one")
    endpoint = keys.endpoint or endpoint
    if endpoint is None:
        host = f"tos-s3-{region}.volces.com" if is_tos else f"s3.{region}.amazonaws.com"
    else:
        parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise SourceInvalid("the store's endpoint is no URL of a host")
        if parts.path.strip("/") or parts.query:
            raise SourceInvalid("the store's endpoint has a path; it is the URL of a host")
        host = parts.netloc
        if parts.scheme == "http" or ":" in host:
            # A store of one's own has no host name for each bucket.
            return Bucket(f"{parts.scheme}://{host}/{name}", Signer(keys, region))
        # TOS's S3 API lives beside its own.
        if is_tos and host.startswith("tos-") and not host.startswith("tos-s3-"):
            host = "tos-s3-" + host.removeprefix("tos-")
    # Certificates hold for one label: a bucket with dots has no host of its own.
    if is_tos or (endpoint is None and "." not in name):
        return Bucket(f"https://{name}.{host}", Signer(keys, region))
    return Bucket(f"https://{host}/{name}", Signer(keys, region))


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class _Page:
    objects: list[_Object]
    next_token: str


def _parse_page(body: bytes, display: str) -> _Page:
    """Return one page of ListObjectsV2."""
    try:
        text = body.decode()
        # Listings declare no entities; a document that does is out for the parser's memory.
        if "<!" in text:
            raise SourceUnavailable(f"{display}: the store's listing declares entities")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as err:
        raise SourceUnavailable(f"{display}: the store's answer is no listing") from err
    # Names are compared without their namespace: not every store writes S3's.
    is_escaped = any(_local(child.tag) == "EncodingType" and child.text == "url" for child in root)
    objects = []
    next_token = ""
    for child in root:
        if _local(child.tag) == "NextContinuationToken":
            next_token = child.text or ""
        if _local(child.tag) != "Contents":
            continue
        fields = {_local(part.tag): part.text or "" for part in child}
        key, size = fields.get("Key", ""), fields.get("Size", "")
        if not size.isdecimal():
            raise SourceUnavailable(f"{display}: the store's listing has no sizes")
        objects.append(_Object(unquote_plus(key) if is_escaped else key, int(size), fields.get("ETag", "")))
    return _Page(objects, next_token)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
