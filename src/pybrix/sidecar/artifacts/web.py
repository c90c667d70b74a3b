"""One file on a web server: what its headers say about it."""

from __future__ import annotations

import re

from pybrix.sidecar.artifacts.checksums import parse_headers
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.listing import FixedHeaders, Listing, RemoteFile, source_id
from pybrix.sidecar.artifacts.names import checked_path
from pybrix.sidecar.artifacts.source import RemoteSource, WebSource
from pybrix.sidecar.artifacts.transport import Transport, lower_headers

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# Headers that speak of the bytes sent, which here is one byte.
_OF_THE_BODY = frozenset({"digest", "content-md5"})


class WebLister:
    """Ask for one byte: signed URLs are often signed for GET only, so that HEAD says nothing."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return the one file.

        Raises:
            ArtifactError: see `listing.Lister`.
        """
        assert isinstance(source, WebSource)
        authorizer = FixedHeaders(credentials.headers())
        async with self._transport.open(
            "GET",
            source.url,
            authorizer,
            source.display,
            headers={"Range": "bytes=0-0"},
            accepted=frozenset({200, 206, 416}),
        ) as response:
            headers = lower_headers(response)
            is_whole = response.status == 200
            if not is_whole:
                headers = {name: value for name, value in headers.items() if name not in _OF_THE_BODY}
            # An answer of several gigabytes is not read to its end.
            response.close()
        size_bytes = parse_total(headers, is_whole=is_whole)
        etag = strong_etag(headers.get("etag", ""))
        version = headers.get("etag", "") or headers.get("last-modified", "")
        checksum = source.checksum or parse_headers(headers)
        file = RemoteFile(checked_path(source.name), source.url, size_bytes, version, etag, checksum)
        return Listing(
            display=source.display,
            scheme="http",
            source_id=source_id("web", source.identity),
            revision=version,
            files=(file,),
            authorizer=authorizer,
        )


def parse_total(headers: dict[str, str], *, is_whole: bool) -> int | None:
    """Return how many bytes the file has by an answer's headers, None when they do not say.

    Args:
        headers: with lower-case names.
        is_whole: the answer is the whole file rather than a range of it.
    """
    if is_whole:
        text = headers.get("content-length", "")
        return int(text) if text.isdecimal() else None
    content_range = headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is not None:
        return int(match[3]) if match[3] != "*" else None
    empty = re.fullmatch(r"bytes \*/(\d+)", content_range)
    return int(empty[1]) if empty else None


def strong_etag(text: str) -> str:
    """Return an ETag that `If-Range` may be asked with, or nothing."""
    return text if text.startswith('"') and text.endswith('"') and len(text) > 2 else ""
