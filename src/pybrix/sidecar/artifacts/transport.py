"""HTTP requests to sources: redirects that credentials do not follow, errors in a few words, no cloud metadata."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from pybrix.base.clock import Clock
from pybrix.sidecar.artifacts.errors import (
    ArtifactError,
    SourceInvalid,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.listing import Authorizer

MOST_REDIRECTS = 10
LONGEST_DOCUMENT_BYTES = 64 * 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_S = 10.0
_SILENCE_S = 60.0


class _Forbidden(OSError):
    """An address that no artifact comes from."""


class Transport:
    """Send requests of one session; see `open_transport`."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        authorizer: Authorizer,
        display: str,
        *,
        headers: Mapping[str, str] | None = None,
        accepted: frozenset[int] = frozenset({200}),
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, follow redirects, and yield an answer with one of the accepted statuses.

        The authorizer's headers go to the URL's own origin; to a host that a redirect names, nothing secret is sent.

        Raises:
            ArtifactError: in terms of `display`, never of the URL.
        """
        origin = _origin(url)
        is_https = urlsplit(url).scheme == "https"
        referred: str = url
        try:
            for _ in range(MOST_REDIRECTS + 1):
                own = dict(headers or {})
                if _origin(referred) == origin:
                    own.update(authorizer.headers(method, referred, self._clock.now()))
                async with self._session.request(
                    method, URL(referred, encoded=True), headers=own, allow_redirects=False, data=data
                ) as response:
                    if response.status in accepted:
                        yield response
                        return
                    location = response.headers.get("Location", "")
                    if response.status not in _REDIRECTS or not location:
                        raise _refusal(response, display)
                referred = _next(referred, location, display, is_https=is_https)
            raise SourceUnavailable(f"{display}: more than {MOST_REDIRECTS} redirects")
        except TimeoutError as err:
            raise SourceUnavailable(f"{display}: no answer in time") from err
        except (aiohttp.InvalidURL, ValueError) as err:
            raise SourceInvalid(f"{display}: no valid URL") from err
        except (aiohttp.ClientError, OSError) as err:
            raise _unavailable(err, display) from err

    async def fetch(
        self,
        url: str,
        authorizer: Authorizer,
        display: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        """Return a document of bounded size, and its headers with lower-case names.

        Raises:
            ArtifactError: as `open`.
        """
        async with self.open(method, url, authorizer, display, headers=headers, data=data) as response:
            pieces = []
            size = 0
            async for piece in response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > LONGEST_DOCUMENT_BYTES:
                    raise SourceInvalid(f"{display}: a listing of more than {LONGEST_DOCUMENT_BYTES} bytes")
            return b"".join(pieces), lower_headers(response)


def lower_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return an answer's headers with lower-case names; of repeated ones the first."""
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        found.setdefault(name.lower(), value)
    return found


@asynccontextmanager
async def open_transport(clock: Clock) -> AsyncIterator[Transport]:
    """Open a transport with a session of its own: no cookies, no proxies or passwords from the environment."""
    connector = aiohttp.TCPConnector(limit=64, socket_factory=_open_socket)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Bytes are kept as they were stored: checksums and ranges speak of those.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "pybrix-sidecar"},
        timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
    ) as session:
        yield Transport(session, clock)


def _open_socket(address: Any) -> socket.socket:
    """Open a socket, but not towards link-local addresses: there live the metadata services that hand out passwords.

    Checked on the address that is connected to, whatever name, redirect or DNS answer led to it.
    """
    family, kind, protocol, _, target = address
    if is_forbidden(str(target[0])):
        raise _Forbidden("link-local addresses hold no artifacts")
    return socket.socket(family=family, type=kind, proto=protocol)


def is_forbidden(address: str) -> bool:
    """Say whether an IP address is link-local, also one of IPv4 written as IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    # AWS's metadata service over IPv6 has an address of its own.
    return ip.is_link_local or ip == ipaddress.ip_address("fd00:ec2::254")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _next(url: str, location: str, display: str, *, is_https: bool) -> str:
    target = urljoin(url, location)
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceUnavailable(f"{display}: a redirect to nowhere")
    if parts.username is not None or parts.password is not None:
        raise SourceInvalid(f"{display}: a redirect with a password in it")
    if is_https and parts.scheme != "https":
        raise SourceInvalid(f"{display}: a redirect from https to http")
    return target.partition("#")[0]


def _refusal(response: aiohttp.ClientResponse, display: str) -> ArtifactError:
    """Return the error that a status means. The body is not repeated: it may quote the request."""
    status = response.status
    # S3's way to say that another region has the bucket.
    region = response.headers.get("x-amz-bucket-region", "")
    if status in (301, 307, 400) and region.replace("-", "").isalnum():
        return SourceInvalid(f"{display}: the bucket is in the region {region}; set aws_region")
    if status in (401, 403):
        return SourceRefused(f"{display}: the source answers {status}: other credentials are needed", status)
    if status in (404, 410):
        return SourceMissing(f"{display}: there is no such thing")
    if status in (408, 425, 429) or status >= 500:
        return SourceUnavailable(f"{display}: the source answers {status}", _retry_after_s(response))
    return SourceInvalid(f"{display}: the source answers {status}")


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _unavailable(err: Exception, display: str) -> ArtifactError:
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, _Forbidden):
            return SourceInvalid(f"{display}: {cause}")
        cause = cause.__cause__ or cause.__context__
    reason = err.strerror if isinstance(err, OSError) and err.strerror else type(err).__name__
    return SourceUnavailable(f"{display}: {reason}")
