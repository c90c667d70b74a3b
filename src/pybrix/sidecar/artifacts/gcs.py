"""Objects of Google Cloud Storage, by its JSON API and tokens of a service account."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pybrix.base.clock import Clock
from pybrix.sidecar.artifacts.checksums import Algorithm, parse_base64
from pybrix.sidecar.artifacts.credentials import Credentials, ServiceAccount
from pybrix.sidecar.artifacts.errors import (
    ListingHostile,
    SourceInvalid,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.listing import ANONYMOUS, FixedHeaders, Listing, RemoteFile, source_id
from pybrix.sidecar.artifacts.names import MOST_FILES, checked_paths
from pybrix.sidecar.artifacts.source import BucketSource, RemoteSource
from pybrix.sidecar.artifacts.transport import Transport

DEFAULT_ENDPOINT = "https://storage.googleapis.com"
_TOKEN_HOST = "oauth2.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_LIFE_S = 3600

Decoded = TypeVar("Decoded")


class _Object(msgspec.Struct, frozen=True):
    name: str
    size: str = ""
    generation: str = ""
    md5_hash: str = msgspec.field(name="md5Hash", default="")


class _Page(msgspec.Struct, frozen=True):
    items: list[_Object] = []
    next_page_token: str = msgspec.field(name="nextPageToken", default="")


class _Token(msgspec.Struct, frozen=True):
    access_token: str


class GcsLister:
    """List objects of Google Cloud Storage.

    Args:
        transport: what asks.
        clock: tokens are asked for by the time.
        endpoint: the store's URL. A service account's key file says where its tokens come from; that host is taken
            only when it is Google's or the endpoint's own.
    """

    def __init__(self, transport: Transport, clock: Clock, endpoint: str = DEFAULT_ENDPOINT) -> None:
        self._transport = transport
        self._clock = clock
        self._endpoint = endpoint.rstrip("/")

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return the object, or all objects below the prefix.

        Raises:
            ArtifactError: see `listing.Lister`.
        """
        assert isinstance(source, BucketSource)
        account = credentials.service_account()
        authorizer = ANONYMOUS if account is None else await self._authorize(account, source.display)
        files: tuple[RemoteFile, ...] | None = None
        if not source.key.endswith("/"):
            files = await self._object(source, authorizer)
        if files is None:
            if source.checksum is not None:
                raise SourceMissing(f"{source.display}: there is no such object")
            files = await self._below(source, authorizer)
        return Listing(
            display=source.display,
            scheme="gcs",
            source_id=source_id("gcs", self._endpoint, source.bucket, source.key),
            revision=files[0].version if len(files) == 1 else "",
            files=files,
            authorizer=authorizer,
        )

    async def _authorize(self, account: ServiceAccount, display: str) -> FixedHeaders:
        uri = urlsplit(account.token_uri)
        is_own = uri.netloc == urlsplit(self._endpoint).netloc
        if not is_own and (uri.scheme, uri.netloc) != ("https", _TOKEN_HOST):
            raise SourceInvalid("the token_uri of gcp_service_account_json is not Google's")
        form = urlencode({"grant_type": _GRANT, "assertion": render_assertion(account, self._clock.now())})
        body, _ = await self._transport.fetch(
            account.token_uri,
            ANONYMOUS,
            f"{display}: token of the service account",
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            data=form.encode(),
        )
        try:
            token = msgspec.json.decode(body, type=_Token).access_token
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            raise SourceRefused(f"{display}: no token for the service account", 401) from err
        return FixedHeaders({"Authorization": f"Bearer {token}"})

    async def _object(self, source: BucketSource, authorizer: FixedHeaders) -> tuple[RemoteFile, ...] | None:
        url = f"{self._bucket_url(source)}/{quote(source.key, safe='')}"
        try:
            body, _ = await self._transport.fetch(url, authorizer, source.display)
        except SourceMissing:
            return None
        return self._files(source, [_decode(body, _Object, source.display)], prefix=source.key.rpartition("/")[0])

    async def _below(self, source: BucketSource, authorizer: FixedHeaders) -> tuple[RemoteFile, ...]:
        prefix = source.key.rstrip("/")
        objects: list[_Object] = []
        token = ""
        while True:
            query = {"prefix": prefix + "/", **({"pageToken": token} if token else {})}
            body, _ = await self._transport.fetch(
                f"{self._bucket_url(source)}?{urlencode(query, quote_via=quote)}", authorizer, source.display
            )
            page = _decode(body, _Page, source.display)
            objects += page.items
            if len(objects) > MOST_FILES:
                raise ListingHostile(f"{source.display}: more than {MOST_FILES} objects")
            if not page.next_page_token or page.next_page_token == token:
                break
            token = page.next_page_token
        objects = [found for found in objects if not found.name.endswith("/") and found.name.startswith(prefix + "/")]
        if not objects:
            raise SourceMissing(f"{source.display}: there is neither such an object nor objects below it")
        return self._files(source, objects, prefix=prefix)

    def _bucket_url(self, source: BucketSource) -> str:
        return f"{self._endpoint}/storage/v1/b/{source.bucket}/o"

    def _files(self, source: BucketSource, objects: list[_Object], *, prefix: str) -> tuple[RemoteFile, ...]:
        start = len(prefix) + 1 if prefix else 0
        paths = checked_paths(found.name[start:] for found in objects)
        return tuple(
            RemoteFile(
                path=path,
                # The generation in the URL: these bytes, or none.
                url=f"{self._bucket_url(source)}/{quote(found.name, safe='')}?"
                + urlencode({"alt": "media", **({"generation": found.generation} if found.generation else {})}),
                size_bytes=int(found.size) if found.size.isdecimal() else None,
                version=found.generation,
                checksum=source.checksum or parse_base64(Algorithm.MD5, found.md5_hash),
                is_immutable=bool(found.generation),
            )
            for path, found in zip(paths, objects, strict=True)
        )


def render_assertion(account: ServiceAccount, now: datetime) -> str:
    """Return the signed claim that a token is asked with (RFC 7523, RS256).

    Raises:
        SourceInvalid: the key is none of RSA.
    """
    try:
        key = serialization.load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise SourceInvalid("the private_key of gcp_service_account_json is no key") from err
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SourceInvalid("the private_key of gcp_service_account_json is not of RSA")
    issued = int(now.timestamp())
    claims = {
        "iss": account.client_email,
        "scope": _SCOPE,
        "aud": account.token_uri,
        "iat": issued,
        "exp": issued + _TOKEN_LIFE_S,
    }
    signed = f"{_segment({'alg': 'RS256', 'typ': 'JWT'})}.{_segment(claims)}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_base64(signature)}"


def _segment(value: object) -> str:
    return _base64(msgspec.json.encode(value))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(body: bytes, kind: type[Decoded], display: str) -> Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        raise SourceUnavailable(f"{display}: the store's answer is no listing") from err
