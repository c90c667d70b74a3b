"""Writes configuration files so that Envoy reads each of them whole, and only when it has changed."""

from __future__ import annotations

import os
from pathlib import Path

from pybrix.envoy.clusters import ENDPOINTS_PREFIX
from pybrix.envoy.xds import XdsFiles


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by rename; Envoy follows renames, and no reader ever sees half a file."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


class XdsWriter:
    """Keep a directory equal to what was rendered last.

    Args:
        xds_dir: the directory; made when missing. What an earlier process left there stays until it differs.
    """

    def __init__(self, xds_dir: Path) -> None:
        self._dir = xds_dir
        self._dir.mkdir(parents=True, exist_ok=True)
        self._written: XdsFiles = {}
        self._endpoint_files = {path.name for path in self._dir.glob(f"{ENDPOINTS_PREFIX}*.json")}

    def write(self, files: XdsFiles) -> tuple[str, ...]:
        """Write what differs, in order, then delete endpoints that nothing refers to any more.

        New clusters are there before routes lead to them. A model that goes is out of the clusters a moment before its
        route is gone: a request for it in that moment gets 503 in place of 404.

        Returns:
            Names of the files that were written or deleted.

        Raises:
            OSError: the disk is full or not writable; what was written before stays valid.
        """
        changed = [name for name, content in files.items() if self._differs(name, content)]
        for name in changed:
            write_atomically(self._dir / name, files[name])
            if name.startswith(ENDPOINTS_PREFIX):
                self._endpoint_files.add(name)
            self._written[name] = files[name]
        stale = sorted(self._endpoint_files - files.keys())
        for name in stale:
            (self._dir / name).unlink(missing_ok=True)
            self._written.pop(name, None)
            self._endpoint_files.discard(name)
        return (*changed, *stale)

    def _differs(self, name: str, content: bytes) -> bool:
        if name not in self._written:
            try:
                self._written[name] = (self._dir / name).read_bytes()
            except FileNotFoundError:
                return True
        return self._written[name] != content
