"""Unpack archives that others made: only plain files, only below the directory, only so many bytes."""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pybrix.sidecar.artifacts.errors import ArtifactTooLarge, ListingHostile, SourceInvalid
from pybrix.sidecar.artifacts.names import MOST_FILES, checked_paths

_COPY_BYTES = 1024 * 1024
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive says it holds."""

    paths: tuple[str, ...]
    size_bytes: int


def measure(archive: Path, limit_bytes: int, display: str) -> Contents:
    """Return what an archive holds, before any of it is unpacked. Blocking.

    Raises:
        ListingHostile: names that leave the directory, links, devices, too many files.
        ArtifactTooLarge: more bytes than allowed.
        SourceInvalid: it is no archive, or a broken one.
    """
    names: list[str] = []
    size_bytes = 0
    with _opened(archive, display) as members:
        for name, size, content in members:
            content.close()
            names.append(name)
            size_bytes += size
            if len(names) > MOST_FILES:
                raise ListingHostile(f"{display}: more than {MOST_FILES} files in the archive")
            if size_bytes > limit_bytes:
                raise ArtifactTooLarge(f"{display} unpacks to more than {limit_bytes} bytes, which is the limit")
    return Contents(checked_paths(names), size_bytes)


def unpack(archive: Path, into: Path, contents: Contents, limit_bytes: int, display: str) -> dict[str, int]:
    """Write the files below `into`, which must not exist or be empty, and return their sizes. Blocking.

    Raises:
        ListingHostile, ArtifactTooLarge, SourceInvalid: as `measure`, also when the contents lie about sizes.
    """
    left = limit_bytes
    sizes: dict[str, int] = {}
    with _opened(archive, display) as members:
        for path, (_, _, source) in zip(contents.paths, members, strict=True):
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            size = 0
            with source, target.open("wb") as out:
                while data := source.read(_COPY_BYTES):
                    size += len(data)
                    if size > left:
                        raise ArtifactTooLarge(
                            f"{display} unpacks to more than {limit_bytes} bytes, which is the limit"
                        )
                    out.write(data)
            target.chmod(0o644)
            left -= size
            sizes[path] = size
    return sizes


_Member = tuple[str, int, IO[bytes]]


@contextmanager
def _opened(archive: Path, display: str) -> Iterator[Iterator[_Member]]:
    """Yield name, size and content of each file of an archive; contents are opened as they are read."""
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                yield _zip_members(file, display)
        else:
            mode = "r:" if archive.name.lower().endswith(".tar") else "r:gz"
            with tarfile.open(archive, mode) as file_of_tape:  # type: ignore[call-overload]
                yield _tar_members(file_of_tape, display)
    except _BROKEN as err:
        raise SourceInvalid(f"{display}: the archive is broken: {type(err).__name__}") from err
    except (RuntimeError, NotImplementedError) as err:
        # What zipfile raises for passwords and for compressions that it does not know.
        raise SourceInvalid(f"{display}: the archive cannot be read: {err}") from err


def _tar_members(file: tarfile.TarFile, display: str) -> Iterator[_Member]:
    for member in file:
        if member.isdir():
            continue
        content = file.extractfile(member) if member.isreg() else None
        if content is None:
            raise ListingHostile(f"{display}: the archive has links or devices: {member.name[:100]!a}")
        yield member.name, member.size, content


def _zip_members(file: zipfile.ZipFile, display: str) -> Iterator[_Member]:
    for info in file.infolist():
        mode = info.external_attr >> 16
        if info.is_dir():
            continue
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ListingHostile(f"{display}: the archive has links or devices: {info.filename[:100]!a}")
        yield info.filename, info.file_size, file.open(info)
