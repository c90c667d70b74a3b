"""Bring the files of a listing to this disk: limits, resumption, checksums."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from pybrix.base.clock import Clock
from pybrix.sidecar.artifacts.archive import measure, unpack
from pybrix.sidecar.artifacts.checksums import Checksum, Hasher, new_hasher, parse_headers
from pybrix.sidecar.artifacts.errors import (
    ArtifactError,
    ArtifactTooLarge,
    ChecksumMismatch,
    DiskFull,
    SourceInvalid,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.listing import Listing, RemoteFile
from pybrix.sidecar.artifacts.retries import Failures, Retrier
from pybrix.sidecar.artifacts.source import is_archive
from pybrix.sidecar.artifacts.transport import Transport, lower_headers
from pybrix.sidecar.artifacts.web import parse_total, strong_etag

log = structlog.get_logger()

_WRITE_BYTES = 1024 * 1024
_LOG_INTERVAL_S = 10.0
# Headers that speak of the bytes sent rather than of the file.
_OF_THE_BODY = frozenset({"digest", "content-md5"})

Reserve = Callable[[int], Awaitable[None]]
"""Makes room for so many bytes in all, or raises DiskFull."""


@dataclass(slots=True)
class Progress:
    """How far a download is."""

    total_bytes: int | None = None
    """None when the source does not say."""
    held_bytes: int = 0
    """Bytes on this disk, those of an earlier attempt included."""
    received_bytes: int = 0
    """Bytes that came over the network by now."""
    logged_s: float = 0.0
    """When the log was told last."""
    is_here: bool = False
    """All came over the network: what is left to do is soon done, and is not broken off."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is here, complete and checked."""

    path: str
    size_bytes: int
    checksum: Checksum | None
    """What it was checked against; None when neither URL nor source promised anything but a size."""


class Fetcher:
    """Fetches listings into working directories.

    A working directory holds `parts/`, which may be incomplete, and `files/`, where each file is complete. A second
    fetch of the same listing into the same directory goes on where the first ended.

    Args:
        transport: what asks.
        retrier: how often.
        clock: tells when the log shall hear of it again.
        concurrency: files under way at once.
    """

    def __init__(self, transport: Transport, retrier: Retrier, clock: Clock, concurrency: int = 4) -> None:
        self._transport = transport
        self._retrier = retrier
        self._clock = clock
        self._concurrency = concurrency

    async def fetch(
        self, listing: Listing, work: Path, limit_bytes: int, reserve: Reserve, progress: Progress
    ) -> tuple[FetchedFile, ...]:
        """Bring all files to `work/files`; an artifact that is one archive is unpacked there.

        Raises:
            ArtifactError: what is in `work` by then may be resumed when the error is transient.
        """
        listing.check_size(limit_bytes)
        progress.total_bytes = listing.size_bytes
        progress.logged_s = self._clock.monotonic_s()
        try:
            if is_single_archive(listing):
                return await self._fetch_archive(listing, work, limit_bytes, reserve, progress)
            return await self._fetch_files(listing, work, work / "files", limit_bytes, progress)
        except OSError as err:
            raise as_artifact_error(err, listing.display) from err

    async def _fetch_files(
        self, listing: Listing, work: Path, into: Path, limit_bytes: int, progress: Progress
    ) -> tuple[FetchedFile, ...]:
        places = asyncio.Semaphore(self._concurrency)
        into.mkdir(parents=True, exist_ok=True)
        allowance = _Allowance(listing.display, limit_bytes)
        failures = Failures()

        async def fetch_one(file: RemoteFile) -> FetchedFile:
            async with places:
                return await _FileTransfer(
                    self._transport,
                    self._clock,
                    listing,
                    file,
                    work / "parts" / file.path,
                    into / file.path,
                    allowance,
                    progress,
                ).run(self._retrier, failures)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch_one(file)) for file in listing.files]
        except BaseExceptionGroup as errors:
            raise _first_error(errors) from None
        return tuple(task.result() for task in tasks)

    async def _fetch_archive(
        self, listing: Listing, work: Path, limit_bytes: int, reserve: Reserve, progress: Progress
    ) -> tuple[FetchedFile, ...]:
        (archive,) = await self._fetch_files(listing, work, work / "archive", limit_bytes, progress)
        progress.is_here = True
        path = work / "archive" / archive.path
        contents = await asyncio.to_thread(measure, path, limit_bytes, listing.display)
        await reserve(archive.size_bytes + contents.size_bytes)
        sizes = await asyncio.to_thread(unpack, path, work / "files", contents, limit_bytes, listing.display)
        await asyncio.to_thread(path.unlink)
        progress.held_bytes = sum(sizes.values())
        return tuple(FetchedFile(name, size, None) for name, size in sizes.items())


def is_single_archive(listing: Listing) -> bool:
    """Say whether the artifact is one file, and that an archive."""
    return len(listing.files) == 1 and is_archive(listing.files[0].path)


def as_artifact_error(err: OSError, display: str) -> ArtifactError:
    """Return what an error of the disk means."""
    if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{display}: {os.strerror(err.errno)}")
    return SourceUnavailable(f"{display}: cannot write: {err.strerror or type(err).__name__}")


def _first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error to tell about: one that stays before one that may pass."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [errors]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return min(leaves, key=lambda error: isinstance(error, SourceUnavailable))


class _Allowance:
    """Bytes that all files of one artifact may have together."""

    def __init__(self, display: str, limit_bytes: int) -> None:
        self._display = display
        self._limit_bytes = limit_bytes
        self._sizes: dict[str, int] = {}

    def note(self, path: str, size_bytes: int) -> None:
        """Take note of what one file has now.

        Raises:
            ArtifactTooLarge: it is too much.
        """
        self._sizes[path] = size_bytes
        if sum(self._sizes.values()) > self._limit_bytes:
            raise ArtifactTooLarge(f"{self._display} has more than {self._limit_bytes} bytes, which is the limit")


class _FileTransfer:
    """One file on its way."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        listing: Listing,
        file: RemoteFile,
        part: Path,
        target: Path,
        allowance: _Allowance,
        progress: Progress,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._listing = listing
        self._file = file
        self._part = part
        self._target = target
        self._allowance = allowance
        self._progress = progress
        self._display = f"{listing.display}: {file.path}" if len(listing.files) > 1 else listing.display
        self._held = 0
        self._furthest = 0
        self._checksum = file.checksum

    async def run(self, retrier: Retrier, failures: Failures) -> FetchedFile:
        """Bring the file to its place; nothing is asked when it is there. `failures` are those of all files."""
        if self._target.is_file():
            # Only complete and checked files get there.
            size_bytes = self._target.stat().st_size
            self._hold(size_bytes)
            return FetchedFile(self._file.path, size_bytes, self._file.checksum)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        await retrier.run(self._attempt, self._display, lambda: self._furthest, failures)
        return FetchedFile(self._file.path, self._held, self._checksum)

    async def _attempt(self) -> bool:
        """Fetch what is missing; true when the file is in its place, false when it has to be begun anew."""
        start = self._find_start()
        if start == self._file.size_bytes and (start > 0 or self._file.checksum is not None):
            self._hold(start)
            hasher = await self._hash_start(start, self._checksum)
            return await self._finish(hasher, was_resumed=True)
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self._file.etag:
                headers["If-Range"] = self._file.etag
        async with self._transport.open(
            "GET",
            self._file.url,
            self._listing.authorizer,
            self._display,
            headers=headers,
            accepted=frozenset({200, 206, 416}),
        ) as response:
            if response.status == 416 or not self._continues(response, start):
                # What is here does not fit to what is there.
                self._part.unlink(missing_ok=True)
                return False
            start = start if response.status == 206 else 0
            self._hold(start)
            hasher = await self._receive(response, start)
        return await self._finish(hasher, was_resumed=start > 0)

    def _find_start(self) -> int:
        """Return how many bytes are here and of use."""
        if self._part.is_symlink() or not self._part.is_file():
            return 0
        size_bytes = self._part.stat().st_size
        is_beyond = self._file.size_bytes is not None and size_bytes > self._file.size_bytes
        return size_bytes if self._file.is_resumable and not is_beyond else 0

    def _continues(self, response: aiohttp.ClientResponse, start: int) -> bool:
        """Say whether an answer is of the file that was listed, and begins where it was asked to."""
        headers = lower_headers(response)
        if headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            raise SourceInvalid(f"{self._display}: the source sends it encoded, although it was asked not to")
        etag = strong_etag(headers.get("etag", ""))
        if self._file.etag and etag and etag != self._file.etag:
            raise SourceUnavailable(f"{self._display}: it changed since it was listed")
        if response.status == 206:
            text = headers.get("content-range", "")
            total = parse_total(headers, is_whole=False)
            fits = self._file.size_bytes is None or total is None or total == self._file.size_bytes
            if start == 0 or not text.startswith(f"bytes {start}-") or not fits:
                return False
            headers = {name: value for name, value in headers.items() if name not in _OF_THE_BODY}
        self._checksum = self._file.checksum or parse_headers(headers)
        return True

    async def _receive(self, response: aiohttp.ClientResponse, start: int) -> Hasher | None:
        """Write the body after what is here, and return the checksum's state."""
        hasher = await self._hash_start(start, self._checksum)
        with self._part.open("r+b" if start else "wb") as out:
            out.seek(start)
            out.truncate()
            buffer: list[bytes] = []
            size = 0
            try:
                async for piece in response.content.iter_any():
                    self._progress.received_bytes += len(piece)
                    self._hold(self._held + len(piece))
                    buffer.append(piece)
                    size += len(piece)
                    if size >= _WRITE_BYTES:
                        # Taken before it is written: whoever cancels this must not have it written twice.
                        taken, buffer, size = buffer, [], 0
                        await _to_its_end(asyncio.to_thread(_write, out.write, hasher, taken))
                        self._log_progress()
            finally:
                # Also of a transfer that broke: the next attempt goes on from there.
                _write(out.write, hasher, buffer)
            await asyncio.to_thread(_sync, out.fileno(), out.flush)
        return hasher

    def _log_progress(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._progress.logged_s >= _LOG_INTERVAL_S:
            self._progress.logged_s = now_s
            log.info(
                "fetch goes on",
                source=self._listing.display,
                held_bytes=self._progress.held_bytes,
                total_bytes=self._progress.total_bytes,
            )

    def _hold(self, size_bytes: int) -> None:
        self._progress.held_bytes += size_bytes - self._held
        self._held = size_bytes
        # What an attempt throws away and fetches once more is no progress.
        self._furthest = max(self._furthest, size_bytes)
        self._allowance.note(self._file.path, size_bytes)
        promised = self._file.size_bytes
        if promised is not None and size_bytes > promised:
            self._part.unlink(missing_ok=True)
            raise ChecksumMismatch(f"{self._display}: the source sends more than the {promised} bytes that it listed")

    async def _hash_start(self, size_bytes: int, checksum: Checksum | None) -> Hasher | None:
        """Begin a checksum with the bytes that are here."""
        if checksum is None:
            return None
        hasher = new_hasher(checksum.algorithm, self._file.size_bytes or 0)
        if size_bytes:
            await asyncio.to_thread(_hash_file, self._part, size_bytes, hasher)
        return hasher

    async def _finish(self, hasher: Hasher | None, *, was_resumed: bool) -> bool:
        """Check what is here and put it in its place; false when a resumed file turns out to be a mixture."""
        promised = self._file.size_bytes
        if promised is not None and self._held < promised:
            raise SourceUnavailable(f"{self._display}: {self._held} of {promised} bytes came")
        if hasher is not None and self._checksum is not None and hasher.hexdigest() != self._checksum.digest:
            self._part.unlink(missing_ok=True)
            if was_resumed:
                return False
            raise ChecksumMismatch(
                f"{self._display}: the {self._checksum.algorithm} of what came is {hasher.hexdigest()}, "
                f"promised was {self._checksum.digest}"
            )
        if not self._part.exists():
            # An empty file of which nothing had to be asked.
            self._part.touch()
        self._part.chmod(0o644)
        self._part.replace(self._target)
        return True


def _write(write: Callable[[bytes], int], hasher: Hasher | None, buffer: list[bytes]) -> None:
    data = b"".join(buffer)
    write(data)
    if hasher is not None:
        hasher.update(data)


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Await what a thread does, also when this is cancelled: the next attempt must not meet it in the file."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _sync(descriptor: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(descriptor)


def _hash_file(path: Path, size_bytes: int, hasher: Hasher) -> None:
    with path.open("rb") as file:
        while size_bytes > 0 and (data := file.read(min(_WRITE_BYTES, size_bytes))):
            hasher.update(data)
            size_bytes -= len(data)
