"""From an artifact's URL to a directory: the source's listing, the store, and what to do when the source is away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import SourceUnavailable
from pybrix.sidecar.artifacts.listing import Lister, Listing
from pybrix.sidecar.artifacts.retries import Retrier
from pybrix.sidecar.artifacts.source import RemoteSource, identity_of, scheme_of
from pybrix.sidecar.artifacts.store import Artifact, ArtifactStore, GivenUp

log = structlog.get_logger()

_KEY_NAME = ".pybrix-key"
_KEY_BYTES = 32


class Catalogue:
    """The listers by kind of source, and the credentials of the sidecar itself.

    Args:
        listers: by `source.scheme_of`.
        retrier: how often a source is asked.
        defaults: credentials for requests that bring none. They are not mixed with those of a request, which may name
            an endpoint of its own.
    """

    def __init__(self, listers: Mapping[str, Lister], retrier: Retrier, defaults: Credentials) -> None:
        self._listers = listers
        self._retrier = retrier
        self._defaults = defaults

    def choose(self, credentials: Credentials) -> Credentials:
        """Return the credentials that a request is made with."""
        return credentials or self._defaults

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return what a source has now.

        Raises:
            ArtifactError: it cannot be said.
        """
        lister = self._listers[scheme_of(source)]
        found: list[Listing] = []

        async def attempt() -> bool:
            found.append(await lister.fetch_listing(source, self.choose(credentials)))
            return True

        await self._retrier.run(attempt, source.display, lambda: 0)
        return found[0]


class Library:
    """Artifacts by source.

    Args:
        catalogue: tells what sources have.
        store: has what is here.
        key: makes hashes of credentials worthless elsewhere; see `load_key`.
    """

    def __init__(self, catalogue: Catalogue, store: ArtifactStore, key: bytes) -> None:
        self._catalogue = catalogue
        self._store = store
        self._key = key

    @asynccontextmanager
    async def lease(
        self, source: RemoteSource, credentials: Credentials, given_up: GivenUp | None = None
    ) -> AsyncIterator[Artifact]:
        """Yield what a source has now; not evicted before the block ends.

        The source is asked each time: it may have another version, or other readers. While it does not answer, what the
        same question with the same credentials brought before is taken.

        Raises:
            ArtifactError: it cannot be had.
            Exception: the result of `given_up`, which ends the wait for a download.
        """
        asked = self._asked(source, credentials)
        listing: Listing | SourceUnavailable
        try:
            listing = await self._catalogue.fetch_listing(source, credentials)
        except SourceUnavailable as err:
            listing = err
        if isinstance(listing, SourceUnavailable):
            async with self._store.lease_kept(asked) as kept:
                if kept is None:
                    raise listing
                log.warning("source is away, what is here is taken", source=source.display, error=str(listing))
                yield kept
            return
        async with self._store.lease(listing, asked, given_up) as artifact:
            yield artifact

    def _asked(self, source: RemoteSource, credentials: Credentials) -> str:
        """Return a hash of a question; it tells nothing about the credentials without the key."""
        digest = hashlib.blake2b(key=self._key, digest_size=20)
        for part in (identity_of(source).encode(), self._catalogue.choose(credentials).canonical()):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


def load_key(root: Path) -> bytes:
    """Return the key of a store's hashes, made when it is first asked for. Only this user can read it."""
    path = root / _KEY_NAME
    root.mkdir(parents=True, exist_ok=True)
    if path.is_file() and len(key := path.read_bytes()) == _KEY_BYTES:
        return key
    key = os.urandom(_KEY_BYTES)
    # Written elsewhere and renamed: there is never half a key.
    fresh = root / f"{_KEY_NAME}.new"
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
        out.write(key)
    fresh.replace(path)
    return key
