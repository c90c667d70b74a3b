"""Logs of containers: files that the programs write to, read from the end, followed while they grow, and rotated.

A program appends to `<restart>.log`. When that grows too large its content is moved to `<restart>.log.1`, as with
`copytruncate` of logrotate(8): what is written during the copy's last moment is lost, the program notices nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock, parse_rfc3339
from pybrix.cluster.nodeagent.logtimes import LogTimes, Mark, Stamper, offset_since
from pybrix.cluster.nodeagent.runfiles import find_files
from pybrix.cluster.nodeagent.runner import Runner
from pybrix.kube.errors import BadRequest, NotFound

_log = structlog.get_logger(__name__)

_CHUNK_BYTES = 64 * 1024
_FOLLOW_INTERVAL_S = 0.1
ROTATION_SIZE_BYTES = 10 * 1024 * 1024
"""Size from which a log is rotated, as the kubelet's `containerLogMaxSize`; one rotated file is kept."""
ROTATION_INTERVAL_S = 10.0


def rotated_path(path: Path) -> Path:
    """Return where the older part of a log is."""
    return path.with_name(f"{path.name}.1")


def rotate(path: Path, limit_bytes: int = ROTATION_SIZE_BYTES) -> bool:
    """Move the content of a log that is too large to its rotated file; say whether that was done."""
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.copyfile(path, temporary)
    os.truncate(path, 0)
    os.replace(temporary, rotated_path(path))
    return True


async def rotate_all(directory: Path) -> None:
    """Rotate the logs under the directory of pods, now and then, until cancelled."""
    while True:
        await asyncio.sleep(ROTATION_INTERVAL_S)
        for path in await asyncio.to_thread(find_files, directory, ".log"):
            try:
                if await asyncio.to_thread(rotate, path):
                    _log.info("log rotated", path=str(path))
            except OSError as error:
                _log.warning("log not rotated", path=str(path), error=str(error))


def tail_offset(path: Path, lines: int) -> int:
    """Return where the last `lines` lines of a file begin; an unfinished last line counts."""
    size = path.stat().st_size
    if lines <= 0:
        return size
    with path.open("rb") as file:
        end, missing = size, lines
        while end > 0:
            start = max(0, end - _CHUNK_BYTES)
            file.seek(start)
            block = file.read(end - start)
            # The line feed at the very end closes the last line; it does not begin another.
            stop = len(block) - 1 if end == size and block.endswith(b"\n") else len(block)
            while (found := block.rfind(b"\n", 0, stop)) >= 0:
                missing -= 1
                if missing == 0:
                    return start + found + 1
                stop = found
            end = start
    return 0


def waiting_text(pod: Pod, container: str) -> str:
    """Return what is added to "is waiting to start", from the pod's status; words: `pkg/kubelet/kubelet_pods.go`."""
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    waiting = next((s.state.waiting for s in statuses if s.name == container), None)
    if waiting is None or not waiting.reason:
        return ""
    is_image = waiting.reason in ("ErrImagePull", "ImagePullBackOff")
    said = "trying and failing to pull image" if is_image else waiting.reason
    return f": {said}: {waiting.message}" if waiting.message else f": {said}"


class NodeLogs:
    """Serve the logs of this node's pods to the API server (its `LogProvider`)."""

    def __init__(self, find_pod: Callable[[ObjectKey], Pod | None], runner: Runner, clock: Clock) -> None:
        self._find_pod = find_pod
        self._runner = runner
        self._clock = clock

    async def read(
        self,
        namespace: str,
        name: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: str | None = None,
        previous: bool = False,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield a container's log.

        Raises:
            NotFound: this node has no such pod.
            BadRequest: the container has not run (again) yet, or a time cannot be read.
        """
        pod = self._find_pod(ObjectKey(namespace, name))
        if pod is None:
            raise NotFound(404, "NotFound", f'pods "{name}" not found on this node')
        directory = self._runner.pod_dir(pod.uid) / container
        runs = sorted(int(p.stem) for p in directory.glob("*.json") if p.stem.isdigit())
        if previous:
            if len(runs) < 2:
                raise BadRequest(
                    400, "BadRequest", f'previous terminated container "{container}" in pod "{name}" not found'
                )
            runs.pop()
        if not runs:
            why = waiting_text(pod, container)
            raise BadRequest(400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start{why}')
        base = directory / str(runs[-1])
        since = _since(since_seconds, since_time, self._clock.now())
        left = limit_bytes
        async for chunk in _read(base, follow=follow, tail_lines=tail_lines, since=since, is_stamped=timestamps):
            yield chunk if left is None else chunk[:left]
            left = None if left is None else left - len(chunk)
            if left is not None and left <= 0:
                return


def _since(seconds: int | None, moment: str | None, now: datetime) -> float | None:
    """Return the moment from which lines are wanted; None: from the beginning. Raises BadRequest."""
    if moment is not None:
        try:
            return parse_rfc3339(moment).timestamp()
        except ValueError as error:
            raise BadRequest(400, "BadRequest", f"sinceTime: {error}") from error
    return now.timestamp() - seconds if seconds is not None else None


async def _read(
    base: Path, *, follow: bool, tail_lines: int | None, since: float | None, is_stamped: bool
) -> AsyncIterator[bytes]:
    path, exit_path = base.with_suffix(".log"), base.with_suffix(".exit")
    while not path.exists():
        # Between the decision to start and the shell's first line.
        if not base.parent.exists() or exit_path.exists():
            return
        await asyncio.sleep(0.01)
    times = LogTimes.load(path)
    for chunk in _older_part(path, tail_lines, since, times.older if is_stamped else None):
        yield chunk
    start = _start(path, tail_lines, since, times.current)
    stamper = Stamper(times.current, start, path.stat().st_mtime) if is_stamped else None
    with path.open("rb") as file:
        file.seek(start)
        while True:
            # Asked before reading, so that what was written until the end is still read.
            is_ended = exit_path.exists() or not path.exists()
            while chunk := file.read(_CHUNK_BYTES):
                yield stamper.stamp(chunk) if stamper is not None else chunk
            if not follow or is_ended:
                return
            await asyncio.sleep(_FOLLOW_INTERVAL_S)
            found = os.fstat(file.fileno())
            if found.st_size < file.tell():
                file.seek(0)  # rotated
                stamper = Stamper((), 0, found.st_mtime) if is_stamped else None
            elif stamper is not None and found.st_size > file.tell():
                # What is new was written since the last look.
                stamper.follow(found.st_mtime)


def _start(path: Path, tail_lines: int | None, since: float | None, marks: Sequence[Mark]) -> int:
    """Return where what is wanted of a file begins."""
    start = tail_offset(path, tail_lines) if tail_lines is not None else 0
    if since is None:
        return start
    if path.stat().st_mtime < since:
        return path.stat().st_size
    return max(start, line_begin(path, offset_since(marks, since)))


def line_begin(path: Path, offset: int) -> int:
    """Return where the line begins in which an offset is."""
    with path.open("rb") as file:
        while offset > 0:
            begin = max(0, offset - _CHUNK_BYTES)
            file.seek(begin)
            found = file.read(offset - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            offset = begin
    return 0


def _older_part(
    path: Path, tail_lines: int | None, since: float | None, stamps: Sequence[Mark] | None
) -> Iterator[bytes]:
    """Yield what of the rotated file is to be shown before the log itself; with times if `stamps` are given."""
    older = rotated_path(path)
    if not older.exists():
        return
    missing = tail_lines
    if tail_lines is not None:
        with path.open("rb") as file:
            missing = tail_lines - sum(1 for _ in file)
        if missing <= 0:
            return
    start = _start(older, missing, since, LogTimes.load(path).older)
    stamper = Stamper(stamps, start, older.stat().st_mtime) if stamps is not None else None
    with older.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield stamper.stamp(chunk) if stamper is not None else chunk
