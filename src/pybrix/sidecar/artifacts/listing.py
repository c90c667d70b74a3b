"""What a source has: files with sizes, versions and checksums; and the name that all of it has in the store. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec

from pybrix.sidecar.artifacts.checksums import Checksum
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import ArtifactTooLarge
from pybrix.sidecar.artifacts.source import RemoteSource


class Authorizer(Protocol):
    """Makes the headers that a request is allowed by. They are sent to the origin of `url` only."""

    def headers(self, method: str, url: str, now: datetime) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class FixedHeaders:
    """The same headers for every request."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def headers(self, method: str, url: str, now: datetime) -> Mapping[str, str]:
        return self.values


ANONYMOUS = FixedHeaders()


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a source."""

    path: str
    """Where it goes below the artifact's directory; safe, see `names.checked_paths`."""
    url: str = field(repr=False)
    """Where its bytes are; it may hold a signature."""
    size_bytes: int | None
    """None when the source does not say."""
    version: str = ""
    """What changes when the bytes do: a commit, an ETag, a generation, a date; empty when the source names nothing."""
    etag: str = ""
    """A strong ETag of `url`, as sent in `If-Range`; empty when there is none, or it speaks of something else."""
    checksum: Checksum | None = None
    is_immutable: bool = False
    """The URL itself names the version, so that parts fetched at different times belong together."""

    @property
    def is_resumable(self) -> bool:
        """Say whether a part that is here already may be completed: what comes of it can be told from a mixture."""
        return bool(self.etag) or self.checksum is not None or self.is_immutable


@dataclass(frozen=True, slots=True)
class Listing:
    """All files of an artifact, as the source has them now."""

    display: str
    """The source for people, without secrets."""
    scheme: str
    """For metrics."""
    source_id: str
    """A hash of what was asked for: endpoint, URL, revision. The same for all versions of it."""
    revision: str
    """What the source calls this version, for people; empty when it has no such word."""
    files: tuple[RemoteFile, ...]
    authorizer: Authorizer = field(default=ANONYMOUS, repr=False)

    @property
    def key(self) -> str:
        """Return the artifact's name in the store: 40 hexadecimal digits from what was asked for and its version."""
        facts = [[f.path, f.size_bytes, f.version, str(f.checksum or "")] for f in self.files]
        return hashlib.sha256(msgspec.json.encode([self.source_id, facts])).hexdigest()[:40]

    @property
    def size_bytes(self) -> int | None:
        """Return the sum, None when a file's size is not known."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def check_size(self, limit_bytes: int) -> None:
        """Return when the known sizes stay within the limit.

        Raises:
            ArtifactTooLarge: they do not.
        """
        known = sum(file.size_bytes or 0 for file in self.files)
        if known > limit_bytes:
            raise ArtifactTooLarge(f"{self.display} has {known} bytes; at most {limit_bytes} are allowed")


class Lister(Protocol):
    """Knows one kind of source."""

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return what the source has now.

        Raises:
            ArtifactError: nothing, or nothing for these credentials, or nothing safe.
        """
        ...


def source_id(*parts: str) -> str:
    """Return a short hash of what was asked for."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:40]
