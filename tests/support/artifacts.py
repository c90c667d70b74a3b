"""A store of artifacts with everything around it, on a directory of a test."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pybrix.base.clock import SystemClock
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.gcs import GcsLister
from pybrix.sidecar.artifacts.hub import HubLister
from pybrix.sidecar.artifacts.library import Catalogue, Library, load_key
from pybrix.sidecar.artifacts.retries import Retrier, RetryRules
from pybrix.sidecar.artifacts.s3 import S3Lister
from pybrix.sidecar.artifacts.source import LocalSource, Provider, parse_source
from pybrix.sidecar.artifacts.store import Artifact, ArtifactStore, open_store
from pybrix.sidecar.artifacts.transfer import Fetcher
from pybrix.sidecar.artifacts.transport import open_transport
from pybrix.sidecar.artifacts.web import WebLister

MIB = 1024 * 1024


@dataclass
class Shelf:
    """A store, and the way into it."""

    root: Path
    store: ArtifactStore
    library: Library
    loaded: set[str] = field(default_factory=set)
    """Keys that the engine is said to have."""
    pauses_s: list[float] = field(default_factory=list)
    """What was slept."""

    async def get(self, url: str, **credentials: str) -> Artifact:
        """Fetch what a URL names, and let go of it."""
        source = parse_source(url)
        assert not isinstance(source, LocalSource)
        async with self.library.lease(source, Credentials(credentials)) as artifact:
            return artifact

    async def read(self, url: str, **credentials: str) -> dict[str, bytes]:
        """Fetch what a URL names and return its files."""
        artifact = await self.get(url, **credentials)
        files = {
            str(path.relative_to(artifact.files_dir)): path.read_bytes()
            for path in artifact.files_dir.rglob("*")
            if path.is_file()
        }
        assert {file.path: file.size_bytes for file in artifact.manifest.files} == {
            name: len(data) for name, data in files.items()
        }
        return files

    def complete(self) -> set[str]:
        """Return the keys of complete artifacts."""
        return {path.name for path in (self.root / "artifacts").iterdir()}

    def partial(self) -> set[str]:
        """Return the keys of unfinished ones."""
        return {path.name for path in (self.root / "partial").iterdir()}


@asynccontextmanager
async def open_shelf(
    root: Path,
    *,
    hub: str = "http://127.0.0.1:1",
    s3: str | None = None,
    gcs: str = "http://127.0.0.1:1",
    budget_bytes: int = 100 * MIB,
    limit_bytes: int = 10 * MIB,
    free_bytes: int = 1000 * MIB,
    defaults: Credentials | None = None,
    attempts: int = 4,
    concurrency: int = 4,
) -> AsyncIterator[Shelf]:
    """Open a store that asks again without waiting."""
    clock = SystemClock()
    loaded: set[str] = set()
    pauses_s: list[float] = []

    async def fetch_loaded() -> Set[str]:
        return set(loaded)

    async def note_pause(seconds: float) -> None:
        pauses_s.append(seconds)

    retrier = Retrier(RetryRules(attempts=attempts), note_pause, random.Random(1))
    async with open_transport(clock) as transport:
        fetcher = Fetcher(transport, retrier, clock, concurrency)
        catalogue = Catalogue(
            {
                "huggingface": HubLister(transport, hub),
                "http": WebLister(transport),
                "s3": S3Lister(transport, Provider.S3, s3),
                "tos": S3Lister(transport, Provider.TOS, s3),
                "gcs": GcsLister(transport, clock, gcs),
            },
            retrier,
            defaults or Credentials(),
        )
        async with open_store(
            root,
            fetcher,
            clock,
            budget_bytes=budget_bytes,
            limit_bytes=limit_bytes,
            fetch_loaded=fetch_loaded,
            free_bytes=lambda: free_bytes,
        ) as store:
            yield Shelf(root, store, Library(catalogue, store, load_key(root)), loaded, pauses_s)
