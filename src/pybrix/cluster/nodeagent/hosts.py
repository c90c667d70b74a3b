"""Hosts files of pods, kept in line with Services and their endpoints while the pods run."""

from __future__ import annotations

import asyncio
import os
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import structlog

from pybrix.api.core import EndpointSlice, Pod, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.nodeagent.names import (
    Entry,
    host_name,
    link_variables,
    machine_lines,
    namespace_lines,
    own_lines,
    service_entries,
    without_own_name,
)
from pybrix.kube.informer import Informer

_log = structlog.get_logger(__name__)

HOSTS_FILE = Path("/etc/hosts")
CHANGE_PAUSE_S = 0.05
"""How long changes are gathered before files are written: a rollout comes as many."""


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    pod: Pod
    own: str


class HostsFiles:
    """The hosts file of each pod that runs here, `<pod's directory>/.hosts`.

    A file is always the same inode, since it is mounted: it is written in place.
    """

    def __init__(self, services: Informer[Service], slices: Informer[EndpointSlice]) -> None:
        self._services = services
        self._slices = slices
        self._kept: dict[Uid, _Kept] = {}
        self._entries: list[Entry] | None = None
        self._common: dict[tuple[str, str], str] = {}
        self._timer: asyncio.TimerHandle | None = None
        services.add_handler(lambda *_: self._changed())
        slices.add_handler(lambda *_: self._changed())

    def keep(self, pod: Pod, pod_ip: str, pod_dir: Path) -> Path:
        """Write a pod's file now, and keep it up to date until `drop`; return where it is."""
        own = own_lines(pod, pod_ip)
        own += machine_lines(_read(HOSTS_FILE), [host_name(pod)])
        kept = self._kept[pod.uid] = _Kept(pod_dir / ".hosts", pod, own)
        pod_dir.mkdir(parents=True, exist_ok=True)
        self._write(kept)
        return kept.path

    def drop(self, uid: Uid) -> None:
        self._kept.pop(uid, None)

    def link_variables(self, namespace: str) -> dict[str, str]:
        """Return the variables that tell a container of the Services of its namespace."""
        return link_variables(sorted(self._services.list(namespace), key=lambda s: s.metadata.name))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _changed(self) -> None:
        self._entries = None
        if self._timer is None and self._kept:
            self._timer = asyncio.get_running_loop().call_later(CHANGE_PAUSE_S, self._write_all)

    def _write_all(self) -> None:
        self._timer = None
        for kept in self._kept.values():
            try:
                self._write(kept)
            except OSError as error:
                _log.warning("a hosts file could not be written", path=str(kept.path), error=str(error))

    def _write(self, kept: _Kept) -> None:
        if self._entries is None:
            self._entries = service_entries(self._services.list(), self._slices.list())
            self._common = {}
        # A pod that is called as a Service is: its own name is its own, as everywhere.
        namespace, host = kept.pod.metadata.namespace, host_name(kept.pod)
        is_service = self._services.get(ObjectKey(namespace, host)) is not None
        key = (namespace, host if is_service else "")
        if key not in self._common:
            self._common[key] = namespace_lines(self._entries, namespace, besides=key[1])
        common = without_own_name(self._common[key], kept.pod)
        _write_in_place(kept.path, (kept.own + common).encode())


def find_name_library() -> Path | None:
    """Return Debian's libnss_wrapper, which reads the hosts file that a variable names; None when it is missing."""
    places = ("/usr/lib", "/usr/lib64", f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or platform.machine()}")
    found = (Path(place) / "libnss_wrapper.so" for place in places)
    return next((path for path in found if path.exists()), None)


def _write_in_place(path: Path, content: bytes) -> None:
    """Replace what a file holds in one write: a reader sees the old or the new, and at most blank lines after it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size == len(content) and os.pread(descriptor, size, 0) == content:
            return
        os.pwrite(descriptor, content.ljust(size, b"\n"), 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
