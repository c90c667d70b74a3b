"""Models that somebody asked to have on the disk: `LOCAL_DIR/MODEL_NAME`, complete or not there.

LOCAL_DIR/MODEL_NAME/...                       the model's files, and `.pybrix-artifact.json`, which says what they are
LOCAL_DIR/.pybrix-work/MODEL_NAME/KEY/...      under way, or left by a sidecar that ended
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from pybrix.base.clock import Clock, format_rfc3339
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import ArtifactError, DiskFull
from pybrix.sidecar.artifacts.library import Catalogue
from pybrix.sidecar.artifacts.names import is_model_name
from pybrix.sidecar.artifacts.source import (
    BucketSource,
    HubSource,
    LocalSource,
    RemoteSource,
    WebSource,
    identity_of,
    parse_model_source,
    scheme_of,
)
from pybrix.sidecar.artifacts.transfer import Fetcher, Progress, as_artifact_error
from pybrix.sidecar.errors import RequestError
from pybrix.sidecar.paths import PathRules
from pybrix.sidecar.wire import ModelDownload, ModelStatusCard

log = structlog.get_logger()

MARKER = ".pybrix-artifact.json"
_WORK = ".pybrix-work"
_SPARE_BYTES = 256 * 1024 * 1024


class ModelMarker(msgspec.Struct, frozen=True, rename="camel"):
    """What a complete model is."""

    source: str
    identity: str
    """Of the question: the URL, without what signs it."""
    scheme: str
    key: str
    revision: str
    size_bytes: int
    fetched_at: str


@dataclass(slots=True)
class _Job:
    """A download under way, or one that failed."""

    source: RemoteSource
    progress: Progress = field(default_factory=Progress)
    is_running: bool = True
    error: str | None = None


class ModelDownloads:
    """Downloads in the background; see `open_downloads`.

    Args:
        catalogue: tells what sources have.
        fetcher: brings files.
        clock: dates markers.
        root: where models go by default.
        rules: where else they may go.
        is_forced: fetch again what is complete.
        tasks: owns the downloads.
        free_bytes: returns what the disk of a path has left.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        fetcher: Fetcher,
        clock: Clock,
        root: Path,
        rules: PathRules,
        *,
        is_forced: bool,
        tasks: asyncio.TaskGroup,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._catalogue = catalogue
        self._fetcher = fetcher
        self._clock = clock
        self._root = root
        self._rules = rules
        self._is_forced = is_forced
        self._tasks = tasks
        self._free_bytes = free_bytes
        self._jobs: dict[Path, _Job] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, request: ModelDownload) -> ModelStatusCard:
        """Begin a download unless it is under way or done, and say how it stands.

        One that failed begins again; the answer tells why it failed.

        Raises:
            RequestError, ArtifactError: the request is wrong.
        """
        source = parse_model_source(request.model_uri)
        if isinstance(source, LocalSource):
            raise RequestError(400, "SourceInvalid", "a path is on the disk already", "model_uri")
        if isinstance(source, BucketSource | WebSource) and source.adapter_dir:
            raise RequestError(400, "SourceInvalid", "#dir= is for adapters", "model_uri")
        name = request.model_name or default_name(source)
        if not is_model_name(name):
            raise RequestError(422, "InvalidName", "model_name must be one plain name of a directory", "model_name")
        target = self._directory(request.local_dir) / name
        extra = parse_extra(request.download_extra_config or {})
        job = self._jobs.get(target)
        if job is not None and job.is_running:
            if job.source != source:
                raise RequestError(409, "Busy", f"another model is being downloaded to {target}", "model_name")
            return self._card(target)
        marker = await asyncio.to_thread(_read_marker, target)
        is_forced = self._is_forced or extra.is_forced
        if marker is not None and marker.identity == identity_of(source) and not is_forced:
            return self._card(target)
        if marker is None and not is_forced and await asyncio.to_thread(_is_occupied, target):
            raise RequestError(
                409, "Occupied", f"{target} was not made by this sidecar; force_download replaces it", "model_name"
            )
        failed = job.error if job is not None else None
        job = self._jobs[target] = _Job(source)
        task = self._tasks.create_task(self._run(target, job, extra), name=f"model-{name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        card = self._card(target)
        return msgspec.structs.replace(card, error=failed) if failed else card

    async def list_models(self, local_dir: str | None) -> list[ModelStatusCard]:
        """Return the models of a directory, those under way included.

        Raises:
            RequestError: the directory is not allowed.
        """
        directory = self._directory(local_dir)
        present = await asyncio.to_thread(_list_directories, directory)
        wanted = {path for path in self._jobs if path.parent == directory}
        return [self._card(path) for path in sorted(present | wanted)]

    async def close(self) -> None:
        """End the downloads; what they have stays for the next time."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _directory(self, local_dir: str | None) -> Path:
        if local_dir is None or os.path.normpath(local_dir) == str(self._root):
            return self._root
        return Path(self._rules.check(local_dir, "local_dir"))

    def _card(self, target: Path) -> ModelStatusCard:
        job = self._jobs.get(target)
        marker = _read_marker(target)
        error: str | None = None
        if job is not None and job.is_running:
            status, source = "downloading", scheme_of(job.source)
        elif job is not None and job.error is not None:
            status, source, error = "no_operation", scheme_of(job.source), job.error
        elif marker is not None:
            status, source = "downloaded", marker.scheme
        else:
            status, source = ("unknown" if target.is_dir() else "not_exist"), "unknown"
        is_running = job is not None and job.is_running
        return ModelStatusCard(
            model_name=target.name,
            model_root_path=str(target),
            source=source,
            model_status=status,
            error=error,
            held_bytes=job.progress.held_bytes if job is not None and is_running else None,
            total_bytes=job.progress.total_bytes if job is not None and is_running else None,
        )

    async def _run(self, target: Path, job: _Job, extra: ExtraConfig) -> None:
        """Download; an error is kept for whoever asks next."""
        log.info("model download begins", source=job.source.display, path=str(target))
        try:
            await self._download(target, job, extra)
        except ArtifactError as err:
            job.error = str(err)
        except OSError as err:
            job.error = str(as_artifact_error(err, job.source.display))
        except Exception:
            log.exception("model download failed", source=job.source.display, path=str(target))
            job.error = "internal error, see the sidecar's log"
        finally:
            job.is_running = False
            log.info("model download ends", path=str(target), error=job.error, bytes=job.progress.received_bytes)

    async def _download(self, target: Path, job: _Job, extra: ExtraConfig) -> None:
        listing = await self._catalogue.fetch_listing(job.source, extra.credentials)
        works = target.parent / _WORK / target.name
        work = works / listing.key
        work.mkdir(parents=True, exist_ok=True)
        free_bytes = max(0, self._free_bytes(work) - _SPARE_BYTES)

        async def reserve(size_bytes: int) -> None:
            left = self._free_bytes(work) - _SPARE_BYTES + job.progress.held_bytes
            if size_bytes > left:
                raise DiskFull(f"{job.source.display}: {size_bytes} bytes are needed, the disk has {left}")

        if listing.size_bytes is not None:
            held_bytes = await asyncio.to_thread(_size_of, work)
            if listing.size_bytes - held_bytes > free_bytes:
                raise DiskFull(
                    f"{job.source.display}: {listing.size_bytes - held_bytes} bytes are needed, "
                    f"the disk has {free_bytes}"
                )
        limit_bytes = max(free_bytes, listing.size_bytes or 0)
        try:
            files = await self._fetcher.fetch(listing, work, limit_bytes, reserve, job.progress)
        except ArtifactError as err:
            if not err.is_transient:
                # What is here will not become right by going on.
                await asyncio.to_thread(shutil.rmtree, work)
            raise
        marker = ModelMarker(
            source=job.source.display,
            identity=identity_of(job.source),
            scheme=scheme_of(job.source),
            key=listing.key,
            revision=listing.revision,
            size_bytes=sum(file.size_bytes for file in files),
            fetched_at=format_rfc3339(self._clock.now()),
        )
        await asyncio.to_thread(_publish, work / "files", target, works, msgspec.json.encode(marker))


@dataclass(frozen=True, slots=True)
class ExtraConfig:
    """What `download_extra_config` says that means something here."""

    credentials: Credentials
    is_forced: bool = False


def parse_extra(extra: dict[str, object]) -> ExtraConfig:
    """Return what a request's extra configuration says; threads and part sizes mean nothing here."""
    texts = {name: value for name, value in extra.items() if isinstance(value, str)}
    keys = Credentials(texts)
    return ExtraConfig(keys, is_forced=extra.get("force_download") is True)


def default_name(source: RemoteSource) -> str:
    """Return what a model is called that nobody named: the last part of where it is."""
    match source:
        case HubSource():
            return (source.directory or source.repository).rpartition("/")[2]
        case BucketSource():
            return source.key.rstrip("/").rpartition("/")[2]
        case WebSource():
            return source.name


@asynccontextmanager
async def open_downloads(
    catalogue: Catalogue,
    fetcher: Fetcher,
    clock: Clock,
    root: Path,
    rules: PathRules,
    *,
    is_forced: bool = False,
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> AsyncIterator[ModelDownloads]:
    """Take downloads until the block ends. Arguments as of `ModelDownloads`."""
    async with asyncio.TaskGroup() as tasks:
        downloads = ModelDownloads(
            catalogue, fetcher, clock, root, rules, is_forced=is_forced, tasks=tasks, free_bytes=free_bytes
        )
        try:
            yield downloads
        finally:
            await downloads.close()


def _publish(files: Path, target: Path, works: Path, marker: bytes) -> None:
    """Put a complete model in its place; what is there goes, and so does all that led here."""
    path = files / MARKER
    with path.open("wb") as out:
        out.write(marker)
        out.flush()
        os.fsync(out.fileno())
    old = works / "old"
    if old.exists():
        shutil.rmtree(old)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        target.rename(old)
    files.rename(target)
    shutil.rmtree(works)


def _read_marker(target: Path) -> ModelMarker | None:
    try:
        return msgspec.json.decode((target / MARKER).read_bytes(), type=ModelMarker)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_occupied(target: Path) -> bool:
    return target.is_symlink() or target.is_file() or (target.is_dir() and any(target.iterdir()))


def _list_directories(directory: Path) -> set[Path]:
    if not directory.is_dir():
        return set()
    return {path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _size_of(work: Path) -> int:
    return sum(path.lstat().st_size for path in work.rglob("*") if path.is_file())
