"""Directories of claims of volumes: they outlive pods, and go when their claim's object goes."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

import structlog

from pybrix.api.core import PersistentVolumeClaim
from pybrix.api.identity import Uid

_log = structlog.get_logger(__name__)


class ClaimDirectories:
    """One directory a claim, under `directory/<uid>`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def bound(self, claims: Iterable[PersistentVolumeClaim]) -> dict[str, Path]:
        """Return the directories of the claims that are bound, by the claims' names."""
        return {c.metadata.name: self._directory / c.uid for c in claims if c.status.phase == "Bound"}

    def remove(self, uid: Uid) -> None:
        """Remove what is stored for a claim that is gone."""
        if (self._directory / uid).is_dir():
            _log.info("removing the directory of a claim that is gone", uid=uid)
            shutil.rmtree(self._directory / uid, ignore_errors=True)

    def sweep(self, present: Collection[Uid]) -> None:
        """Remove what is stored for claims that went while nobody looked."""
        for path in sorted(self._directory.glob("*")):
            if path.name not in present:
                self.remove(Uid(path.name))
