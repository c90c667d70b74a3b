"""Logs of containers: files that the programs write to, read from the end, followed while they grow, and rotated.

A program appends to `<restart>.log`. When that grows too large its content is moved to `<restart>.log.1`, as with
`copytruncate` of logrotate(8): what is written during the copy's last moment is lost, the program notices nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import structlog

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
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
        for path in directory.glob("*/*/*.log"):
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

    def __init__(self, find_pod: Callable[[ObjectKey], Pod | None], runner: Runner) -> None:
        self._find_pod = find_pod
        self._runner = runner

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
            BadRequest: the container has not run (again) yet, or times of lines are asked for, which programs that
                write their own files do not leave.
        """
        if timestamps or since_seconds is not None or since_time is not None:
            raise BadRequest(400, "BadRequest", "this node does not record when a line was logged")
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
        async for chunk in _read(base, follow=follow, tail_lines=tail_lines, limit_bytes=limit_bytes):
            yield chunk


async def _read(base: Path, *, follow: bool, tail_lines: int | None, limit_bytes: int | None) -> AsyncIterator[bytes]:
    path, exit_path = base.with_suffix(".log"), base.with_suffix(".exit")
    while not path.exists():
        # Between the decision to start and the shell's first line.
        if not base.parent.exists() or exit_path.exists():
            return
        await asyncio.sleep(0.01)
    left = limit_bytes
    with path.open("rb") as file:
        for chunk in _older_part(path, tail_lines):
            piece = chunk if left is None else chunk[:left]
            left = None if left is None else left - len(piece)
            yield piece
        file.seek(tail_offset(path, tail_lines) if tail_lines is not None else 0)
        while True:
            # Asked before reading, so that what was written until the end is still read.
            is_ended = exit_path.exists() or not path.exists()
            while chunk := file.read(_CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left)):
                yield chunk
                if left is not None:
                    left -= len(chunk)
            if not follow or is_ended or left == 0:
                return
            await asyncio.sleep(_FOLLOW_INTERVAL_S)
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # rotated


def _older_part(path: Path, tail_lines: int | None) -> Iterator[bytes]:
    """Yield what of the rotated file is to be shown before the log itself."""
    older = rotated_path(path)
    if not older.exists():
        return
    start = 0
    if tail_lines is not None:
        with path.open("rb") as file:
            missing = tail_lines - sum(1 for _ in file)
        if missing <= 0:
            return
        start = tail_offset(older, missing)
    with older.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
