"""The last view on disk: what a brain starts from while the Kubernetes API is down.

The file holds the facts of every pod that served a model and of every adapter, with a schema version. It is written
beside and renamed, so a reader sees the old or the new one, whole.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import structlog

from pybrix.base.clock import Clock, format_rfc3339
from pybrix.gateway.view.facts import AdapterFacts, PodFacts, SliceFacts
from pybrix.gateway.view.snapshot import ClusterView, build_view

SCHEMA_VERSION = 2
READABLE_VERSIONS = frozenset({1, 2})
"""A file of version 1 knows no adapters."""
WRITE_INTERVAL_S = 1.0
_log = structlog.get_logger()


class PersistedView(msgspec.Struct, frozen=True, rename="camel"):
    """The document. `saved_at` is RFC 3339."""

    schema_version: int
    saved_at: str
    pods: tuple[PodFacts, ...]
    slices: tuple[SliceFacts, ...] = ()
    adapters: tuple[AdapterFacts, ...] = ()


class _Versioned(msgspec.Struct, rename="camel"):
    schema_version: int


def render_view(view: ClusterView, saved_at: str) -> bytes:
    """Return the document of a view. Pure."""
    document = PersistedView(
        SCHEMA_VERSION,
        saved_at,
        tuple(view.pods.values()),
        tuple(view.slices.values()),
        tuple(view.adapters.values()),
    )
    return msgspec.json.encode(document)


def parse_view(text: bytes) -> PersistedView:
    """Decode a document. Pure.

    Raises:
        ValueError: it is damaged, or of another schema version.
    """
    try:
        version = msgspec.json.decode(text, type=_Versioned).schema_version
        if version not in READABLE_VERSIONS:
            raise ValueError(f"schema version {version}, this program reads up to {SCHEMA_VERSION}")
        return msgspec.json.decode(text, type=PersistedView)
    except msgspec.DecodeError as err:
        raise ValueError(f"damaged: {err}") from err


def load_view(path: Path) -> tuple[ClusterView, str] | None:
    """Return the last view and when it was saved, or None where there is none that can be used.

    A damaged file is no reason not to start: the view comes again from the API.
    """
    try:
        saved = parse_view(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        _log.warning("persisted view not used", path=str(path), error=str(err))
        return None
    return build_view(saved.pods, saved.slices, saved.adapters), saved.saved_at


def save_view(path: Path, text: bytes) -> None:
    """Replace the file atomically; on disk when this returns."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


class ViewKeeper:
    """Writes each new view, at most one a second, off the event loop (an fsync may take long)."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._latest: ClusterView | None = None
        self._wake = asyncio.Event()

    def keep(self, view: ClusterView) -> None:
        self._latest = view
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled. A full disk is logged, and tried again with the next view."""
        while True:
            await self._wake.wait()
            await self.write_now()
            await asyncio.sleep(WRITE_INTERVAL_S)

    async def write_now(self) -> None:
        """Write the latest view if it has not been written."""
        view, self._latest = self._latest, None
        self._wake.clear()
        if view is None:
            return
        text = render_view(view, format_rfc3339(self._clock.now()))
        try:
            await asyncio.to_thread(save_view, self._path, text)
        except OSError as err:
            _log.warning("view not persisted", path=str(self._path), error=str(err))
