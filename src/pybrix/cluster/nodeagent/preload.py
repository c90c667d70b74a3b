"""Where the bind shim is loaded from: a path that LD_PRELOAD can carry, in a directory that nobody else can write."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import structlog

from pybrix.cluster.nodeagent.shim import is_static

_log = structlog.get_logger(__name__)

SYSTEM_DIRECTORIES = (Path("/tmp"), Path("/var/tmp"))


class UnsafeDirectoryError(OSError):
    """A library in this directory could be another user's."""


def is_carriable(path: Path) -> bool:
    """Say whether LD_PRELOAD can name a path: the loader splits it at spaces and colons, and expands `$`; ld.so(8)."""
    return not any(c.isspace() or c in ":$" for c in str(path))


def require_private(directory: Path) -> None:
    """Check that only this user and root can put a file in a directory, or another directory in its place.

    Raises:
        UnsafeDirectoryError: somebody else can.
        OSError: there is no such directory.
    """
    real = directory.resolve(strict=True)
    for place in (real, *real.parents):
        found = place.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise UnsafeDirectoryError(f"{place} is no directory")
        if found.st_uid not in (0, os.geteuid()):
            raise UnsafeDirectoryError(f"{place} belongs to user {found.st_uid}")
        # In a sticky directory others may add names but not replace ours.
        is_shared = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        if is_shared and (place == real or not found.st_mode & stat.S_ISVTX):
            raise UnsafeDirectoryError(f"others can write {place}")


@dataclass(frozen=True, slots=True)
class Preload:
    """A library, and the path by which programs load it: its own, or that of a copy."""

    source: Path
    path: Path

    def ensure(self) -> None:
        """Make the copy where it is missing: temporary directories are swept now and then.

        Raises:
            OSError: it cannot be made, or not safely.
        """
        if self.path == self.source:
            self.source.stat()
            return
        directory, content = self.path.parent, self.source.read_bytes()
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise UnsafeDirectoryError(f"{directory} is not a private directory of this user")
        require_private(directory)
        if self.path.is_file() and not self.path.is_symlink() and self.path.read_bytes() == content:
            return
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        temporary.chmod(0o700)
        os.replace(temporary, self.path)

    def problem(self, mount_targets: Iterable[PurePath]) -> str:
        """Return why a container with these mounts cannot load the library; nothing when it can."""
        for target in mount_targets:
            if self.path.resolve().is_relative_to(os.path.realpath(target)):
                return f"the mount at {target} hides {self.path}"
        try:
            self.ensure()
        except OSError as error:
            return f"{self.path} cannot be loaded: {error}"
        return ""


async def find_preload(
    source: Path, *, search_path: str, directories: Iterable[Path] = SYSTEM_DIRECTORIES
) -> Preload | None:
    """Return how programs load a library; None when no path works, which is logged.

    Args:
        source: the library.
        search_path: where `cat`, by which loading is tried, is looked for, as PATH.
        directories: where a copy may be made, in this order, when LD_PRELOAD cannot carry the library's own path.
    """
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    candidates = [source, *(d / f"pybrix-{os.geteuid()}-{digest}" / source.name for d in directories)]
    for preload in (Preload(source, path) for path in candidates if is_carriable(path)):
        try:
            preload.ensure()
        except OSError as error:
            _log.warning("a place for the bind shim cannot be used", path=str(preload.path), error=str(error))
            continue
        if await _loads(preload.path, search_path):
            return preload
        _log.warning("the bind shim cannot be loaded, as from a file system without exec", path=str(preload.path))
    return None


async def _loads(library: Path, search_path: str) -> bool:
    """Say whether a program that is told to load a library does: the loader only warns when it cannot."""
    cat = shutil.which("cat", path=f"{search_path}:/usr/bin:/bin")
    if cat is None or is_static(Path(cat)):
        return True  # nothing to try it with
    env: Mapping[str, str] = {"LD_PRELOAD": str(library)}
    process = await asyncio.create_subprocess_exec(
        cat,
        "/proc/self/maps",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=env,
    )
    maps, _ = await process.communicate()
    return os.fsencode(library.name) in maps
