"""The artifacts on this disk: complete or not there, shared by who wants the same, evicted when room is needed.

    ROOT/artifacts/KEY/manifest.json   what it is; written before the directory gets its name, so that it is complete
    ROOT/artifacts/KEY/files/...       what engines read
    ROOT/partial/KEY/...               under way, or left by a sidecar that ended; a later fetch goes on from there
    ROOT/trash/...                     renamed away, about to be deleted

KEY comes from the source, what it calls this version, and the files with their versions and checksums (`Listing.key`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Set
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import msgspec
import structlog

from pybrix.base.clock import Clock, format_rfc3339
from pybrix.base.errors import UsageError
from pybrix.sidecar.artifacts.errors import ArtifactError, SourceUnavailable
from pybrix.sidecar.artifacts.eviction import Held, Room, plan_eviction
from pybrix.sidecar.artifacts.listing import Listing
from pybrix.sidecar.artifacts.transfer import FetchedFile, Fetcher, Progress, as_artifact_error, is_single_archive

log = structlog.get_logger()

# Left to whatever else writes to the same disk.
_SPARE_BYTES = 64 * 1024 * 1024
# How long a download goes on that nobody waits for: a controller that gave up is back after a second or a few.
LINGER_S = 30.0

GivenUp = asyncio.Future[Exception]
"""Done when somebody waits no longer: with what is raised then."""


class FileRecord(msgspec.Struct, frozen=True, rename="camel"):
    """One file of a manifest."""

    path: str
    size_bytes: int
    checksum: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an artifact is. Nothing in it is secret."""

    key: str
    source: str
    asked: str
    """A hash of the question and its credentials: who asks the same may have the answer while the source is away."""
    revision: str = ""
    size_bytes: int
    fetched_at: str
    files: list[FileRecord]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A complete artifact."""

    key: str
    files_dir: Path
    manifest: Manifest


@dataclass(slots=True)
class Flight:
    """A download under way, and all that wait for it."""

    listing: Listing
    asked: str
    done: asyncio.Future[Artifact]
    progress: Progress = field(default_factory=Progress)
    pledged_bytes: int = 0
    task: asyncio.Task[None] | None = None
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None
    """Ends it, when nobody waits."""
    is_ending: bool = False


@dataclass(slots=True)
class StoreCounters:
    """For metrics."""

    downloads: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By scheme and result: `complete`, or the reason of an error."""
    received_bytes: Counter[str] = field(default_factory=Counter)
    """By scheme."""
    hits: int = 0
    joined: int = 0
    evictions: int = 0


class ArtifactStore:
    """One directory of artifacts; see `open_store`.

    Args:
        root: the directory; nobody else writes below it.
        fetcher: brings files.
        clock: tells when an artifact was used last.
        budget_bytes: that all artifacts may have together.
        limit_bytes: that one may have.
        tasks: owns the downloads. They outlast the requests that wait for them, for `linger_s`.
        fetch_loaded: returns the keys of what engines have loaded; asked before anything is evicted.
        free_bytes: returns what the disk has left.
        linger_s: how long a download goes on that nobody waits for.
    """

    def __init__(
        self,
        root: Path,
        fetcher: Fetcher,
        clock: Clock,
        *,
        budget_bytes: int,
        limit_bytes: int,
        tasks: asyncio.TaskGroup,
        fetch_loaded: Callable[[], Awaitable[Set[str]]],
        free_bytes: Callable[[], int],
        linger_s: float = LINGER_S,
    ) -> None:
        self._root = root
        self._fetcher = fetcher
        self._clock = clock
        self._budget_bytes = budget_bytes
        self._limit_bytes = limit_bytes
        self._tasks = tasks
        self._fetch_loaded = fetch_loaded
        self._free_bytes = free_bytes
        self._linger_s = linger_s
        self._flights: dict[str, Flight] = {}
        self._leases: Counter[str] = Counter()
        self._manifests: dict[str, Manifest] = {}
        self._asked: dict[str, set[str]] = {}
        self._used_s: dict[str, float] = {}
        self._trash_numbers = count()
        self.counters = StoreCounters()

    def open(self) -> None:
        """Find what is there; what a crash left half-deleted goes.

        Raises:
            UsageError: the directory cannot be written, or another sidecar has it.
        """
        try:
            for name in ("artifacts", "partial", "trash"):
                (self._root / name).mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise UsageError(f"cannot write to {self._root}: {err.strerror}", "choose another --artifact-dir") from err
        for left in (self._root / "trash").iterdir():
            _delete(left)
        for directory in (self._root / "artifacts").iterdir():
            manifest = _read_manifest(directory)
            if manifest is None or manifest.key != directory.name:
                log.warning("artifact without a valid manifest is deleted", path=str(directory))
                _delete(self._move_to_trash(directory))
                continue
            self._manifests[directory.name] = manifest
            self._asked[directory.name] = {manifest.asked}
            self._used_s[directory.name] = (directory / "manifest.json").stat().st_mtime

    async def close(self) -> None:
        """End the downloads; what they have stays for the next time."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def lease(self, listing: Listing, asked: str, given_up: GivenUp | None = None) -> AsyncIterator[Artifact]:
        """Yield the listed artifact, fetched when it is not here; it is not evicted before the block ends.

        Args:
            listing: what the source has.
            asked: a hash of the question.
            given_up: ends the wait for a download, which others may go on waiting for.

        Raises:
            ArtifactError: it cannot be had.
            Exception: the result of `given_up`.
        """
        self._leases[listing.key] += 1
        try:
            yield await self._obtain(listing, asked, given_up)
        finally:
            self._release(listing.key)

    @asynccontextmanager
    async def lease_kept(self, asked: str) -> AsyncIterator[Artifact | None]:
        """Yield what the same question brought last, None when nothing did; not evicted before the block ends."""
        found = [manifest for manifest in self._manifests.values() if asked in self._asked[manifest.key]]
        if not found:
            yield None
            return
        manifest = max(found, key=lambda manifest: (manifest.fetched_at, manifest.key))
        self._leases[manifest.key] += 1
        try:
            yield self._use(manifest)
        finally:
            self._release(manifest.key)

    async def remove(self, key: str) -> bool:
        """Delete an artifact that nobody uses; false when it is in use or not there."""
        if key in self._leases or key in self._flights or key not in self._manifests:
            return False
        if key in await self._fetch_loaded() or key in self._leases or key not in self._manifests:
            return False
        await asyncio.to_thread(_delete, self._forget(key))
        return True

    def flights(self) -> tuple[Flight, ...]:
        """Return the downloads under way."""
        return tuple(self._flights.values())

    def manifests(self) -> tuple[Manifest, ...]:
        """Return what is here, complete."""
        return tuple(self._manifests.values())

    async def _obtain(self, listing: Listing, asked: str, given_up: GivenUp | None) -> Artifact:
        key = listing.key
        while (ending := self._flights.get(key)) is not None and ending.is_ending and ending.task is not None:
            # What it has is gone on from.
            await asyncio.wait({ending.task})
        manifest = self._manifests.get(key)
        if manifest is not None:
            self.counters.hits += 1
            # Perhaps with other credentials, which the source has just accepted.
            self._asked[key].add(asked)
            return self._use(manifest)
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(listing, asked, asyncio.get_running_loop().create_future())
            self._flights[key] = flight
            flight.task = self._tasks.create_task(self._fly(flight), name=f"fetch-{key[:12]}")
        else:
            self.counters.joined += 1
        flight.waiting += 1
        if flight.timer is not None:
            flight.timer.cancel()
        try:
            # Who gives up waiting does not end it for the others.
            waited: list[asyncio.Future[Artifact] | GivenUp] = [flight.done, *([given_up] if given_up else [])]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.done.done():
                flight.timer = asyncio.get_running_loop().call_later(self._linger_s, self._end, flight)
        if given_up is not None and not flight.done.done():
            raise given_up.result()
        return flight.done.result()

    def _end(self, flight: Flight) -> None:
        """End a download that nobody waits for; what it has stays for the next time."""
        if flight.waiting or flight.progress.is_here or flight.done.done() or flight.task is None:
            return
        flight.is_ending = True
        flight.task.cancel()

    async def _fly(self, flight: Flight) -> None:
        """Fetch an artifact and tell all who wait. Errors are theirs: the task itself ends well."""
        listing = flight.listing
        key, display = listing.key, listing.display
        result = "complete"
        started_s = self._clock.monotonic_s()
        log.info("fetch begins", source=display, key=key, files=len(listing.files), size_bytes=listing.size_bytes)
        try:
            flight.done.set_result(await self._fetch(flight))
        except ArtifactError as err:
            result = err.reason
            flight.progress.is_here = True
            if not err.is_transient:
                # What is here will not become right by going on.
                await asyncio.to_thread(_delete, self._root / "partial" / key)
            flight.done.set_exception(err)
        except asyncio.CancelledError:
            result = "Abandoned" if flight.is_ending else "Stopped"
            why = "nobody waits for it" if flight.is_ending else "the sidecar stops"
            flight.done.set_exception(SourceUnavailable(f"{display}: {why}"))
            raise
        except Exception:
            result = "InternalError"
            log.exception("fetch failed", source=display, key=key)
            flight.done.set_exception(SourceUnavailable(f"{display}: internal error, see the sidecar's log"))
        finally:
            if flight.timer is not None:
                flight.timer.cancel()
            del self._flights[key]
            self.counters.downloads[listing.scheme, result] += 1
            self.counters.received_bytes[listing.scheme] += flight.progress.received_bytes
            if not flight.done.cancelled():
                # Read here too: whoever waited may have gone.
                error = flight.done.exception()
                log.info(
                    "fetch ends",
                    source=display,
                    key=key,
                    result=result,
                    error=str(error) if error else None,
                    received_bytes=flight.progress.received_bytes,
                    duration_s=round(self._clock.monotonic_s() - started_s, 3),
                )

    async def _fetch(self, flight: Flight) -> Artifact:
        listing = flight.listing
        listing.check_size(self._limit_bytes)
        work = self._root / "partial" / listing.key
        work.mkdir(parents=True, exist_ok=True)
        # Where sizes are not known, room for the largest that is allowed, and what is too much is given back later.
        most_bytes = min(self._limit_bytes, self._budget_bytes)
        expected = most_bytes if listing.size_bytes is None else listing.size_bytes
        await self._reserve(flight, expected)

        async def reserve(size_bytes: int) -> None:
            await self._reserve(flight, size_bytes)

        if is_single_archive(listing):
            # Unpacking does not go on where it ended.
            await asyncio.to_thread(_delete, work / "files")
        files = await self._fetcher.fetch(listing, work, self._limit_bytes, reserve, flight.progress)
        flight.progress.is_here = True
        manifest = self._describe(flight, files)
        target = self._root / "artifacts" / listing.key
        try:
            await asyncio.to_thread(_publish, work, target, msgspec.json.encode(manifest))
        except OSError as err:
            raise as_artifact_error(err, listing.display) from err
        self._manifests[listing.key] = manifest
        self._asked[listing.key] = {flight.asked}
        return self._use(manifest)

    def _describe(self, flight: Flight, files: tuple[FetchedFile, ...]) -> Manifest:
        return Manifest(
            key=flight.listing.key,
            source=flight.listing.display,
            asked=flight.asked,
            revision=flight.listing.revision,
            size_bytes=sum(file.size_bytes for file in files),
            fetched_at=format_rfc3339(self._clock.now()),
            files=[FileRecord(file.path, file.size_bytes, str(file.checksum or "")) for file in files],
        )

    async def _reserve(self, flight: Flight, size_bytes: int) -> None:
        """Make room for a download of so many bytes in all."""
        if size_bytes <= flight.pledged_bytes:
            flight.pledged_bytes = size_bytes
            return
        parts = await asyncio.to_thread(_measure_parts, self._root / "partial")
        loaded = await self._fetch_loaded()
        # From here to the end nothing is awaited: two downloads must not be promised the same room.
        others = [other for other in self._flights.values() if other is not flight]
        room = Room(
            budget_bytes=self._budget_bytes,
            free_bytes=max(0, self._free_bytes() - _SPARE_BYTES),
            pledged_bytes=sum(other.pledged_bytes for other in others),
            unwritten_bytes=sum(max(0, other.pledged_bytes - other.progress.held_bytes) for other in others),
        )
        held = [
            Held(key, manifest.size_bytes, self._used_s[key], is_partial=False)
            for key, manifest in self._manifests.items()
        ] + [part for part in parts if part.key not in self._flights]
        own_bytes = next((part.size_bytes for part in parts if part.key == flight.listing.key), 0)
        in_use = loaded | self._leases.keys()
        # The disk needs only what is not here yet; the budget counts everything.
        room = replace(room, free_bytes=room.free_bytes + own_bytes)
        evictions = plan_eviction(held, in_use, size_bytes, room)
        flight.pledged_bytes = size_bytes
        doomed = []
        for eviction in evictions:
            self.counters.evictions += 1
            log.info("artifact is evicted", key=eviction.held.key, bytes=eviction.held.size_bytes, why=eviction.why)
            if eviction.held.is_partial:
                doomed.append(self._move_to_trash(self._root / "partial" / eviction.held.key))
            else:
                doomed.append(self._forget(eviction.held.key))
        for path in doomed:
            await asyncio.to_thread(_delete, path)

    def _use(self, manifest: Manifest) -> Artifact:
        directory = self._root / "artifacts" / manifest.key
        now_s = self._clock.now().timestamp()
        self._used_s[manifest.key] = now_s
        with suppress(OSError):
            # Only for the order of eviction after a restart.
            os.utime(directory / "manifest.json", (now_s, now_s))
        return Artifact(manifest.key, directory / "files", manifest)

    def _release(self, key: str) -> None:
        self._leases[key] -= 1
        if not self._leases[key]:
            del self._leases[key]

    def _forget(self, key: str) -> Path:
        """Take an artifact away, and return where it waits to be deleted."""
        del self._manifests[key], self._used_s[key], self._asked[key]
        return self._move_to_trash(self._root / "artifacts" / key)

    def _move_to_trash(self, path: Path) -> Path:
        target = self._root / "trash" / f"{os.getpid()}-{next(self._trash_numbers)}"
        path.rename(target)
        return target


@asynccontextmanager
async def open_store(
    root: Path,
    fetcher: Fetcher,
    clock: Clock,
    *,
    budget_bytes: int,
    limit_bytes: int,
    fetch_loaded: Callable[[], Awaitable[Set[str]]],
    free_bytes: Callable[[], int] | None = None,
    linger_s: float = LINGER_S,
) -> AsyncIterator[ArtifactStore]:
    """Open a directory of artifacts, alone, and end its downloads at the end. Arguments as of `ArtifactStore`.

    Raises:
        UsageError: the directory cannot be written, or another process has it.
    """
    with _locked(root):
        async with asyncio.TaskGroup() as tasks:
            store = ArtifactStore(
                root,
                fetcher,
                clock,
                budget_bytes=budget_bytes,
                limit_bytes=limit_bytes,
                tasks=tasks,
                fetch_loaded=fetch_loaded,
                free_bytes=free_bytes or (lambda: shutil.disk_usage(root).free),
                linger_s=linger_s,
            )
            store.open()
            try:
                yield store
            finally:
                await store.close()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of a directory; it ends with the process, however that ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".pybrix-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise UsageError(f"cannot write to {root}: {err.strerror}", "choose another --artifact-dir") from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise UsageError(f"another sidecar has {root}", "give each an --artifact-dir of its own") from err
        yield
    finally:
        os.close(descriptor)


def _publish(work: Path, target: Path, manifest: bytes) -> None:
    """Write the manifest and give the directory its name: after that it is complete, before it is not there."""
    for name in ("parts", "archive"):
        shutil.rmtree(work / name, ignore_errors=True)
    path = work / "manifest.json"
    with path.open("wb") as out:
        out.write(manifest)
        out.flush()
        os.fsync(out.fileno())
    for directory, _, _ in os.walk(work):
        os.chmod(directory, 0o755)
        _sync_directory(Path(directory))
    work.rename(target)
    _sync_directory(target.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(directory: Path) -> Manifest | None:
    try:
        return msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _measure_parts(partial: Path) -> list[Held]:
    """Return what lies below `partial/`, one entry for each key."""
    found = []
    for directory in partial.iterdir():
        size_bytes = 0
        newest_s = 0.0
        for parent, _, names in os.walk(directory):
            for name in names:
                with suppress(FileNotFoundError):
                    status = (Path(parent) / name).lstat()
                    size_bytes += status.st_size
                    newest_s = max(newest_s, status.st_mtime)
        found.append(Held(directory.name, size_bytes, newest_s, is_partial=True))
    return found


def _delete(path: Path) -> None:
    """Delete a directory or a file, links and not what they lead to; what is not there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
