"""Find and read manifest files: names, directories, standard input."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pybrix.base.errors import UsageError
from pybrix.cluster.manifests.nodes import MAX_TEXT_BYTES, Position, Problem, Read, Unreadable
from pybrix.cluster.manifests.reading import read_text

EXTENSIONS = (".json", ".yaml", ".yml")
STDIN = "-"
_START = Position(1, 1, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a file, at most one byte more than a file may have."""

    name: str
    content: bytes


def read_sources(names: Iterable[str], *, recursive: bool, stdin: BinaryIO) -> Iterator[Source]:
    """Read files and what is in directories, in a stable order.

    Args:
        names: files, directories (their *.yaml, *.yml and *.json), or `-`.
        recursive: whether directories below directories count.
        stdin: what `-` means.

    Raises:
        UsageError: a file cannot be read, or a directory has no manifest.
    """
    for name in names:
        if name == STDIN:
            yield Source("<stdin>", stdin.read(MAX_TEXT_BYTES + 1))
            continue
        path = Path(name)
        if not path.is_dir():
            yield _read(path, name)
            continue
        found = list(_manifests_in(path, recursive=recursive))
        if not found:
            hint = "" if recursive else "; -R looks into directories below as well"
            raise UsageError(f"{name} has no manifest in it", f"manifests end in {', '.join(EXTENSIONS)}{hint}")
        for below in found:
            yield _read(below, str(below))


def parse_source(source: Source) -> Read:
    """Return the documents of a file."""
    try:
        return read_text(text_of(source))
    except Unreadable as err:
        return Read(problems=[err.problem])


def text_of(source: Source) -> str:
    """Return a file as text.

    Raises:
        Unreadable: it is too large, or no text.
    """
    if len(source.content) > MAX_TEXT_BYTES:
        raise Unreadable(Problem("limit", f"larger than {MAX_TEXT_BYTES // 1024 // 1024} MiB: not read", _START))
    try:
        return source.content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        message = f"not UTF-8 text: byte {err.start} cannot be decoded"
        raise Unreadable(Problem("syntax", message, _START)) from err


def _manifests_in(directory: Path, *, recursive: bool) -> Iterator[Path]:
    # Links to directories are not followed: they may lead around in circles.
    for parent, below, files in os.walk(directory):
        below.sort()
        for name in sorted(files):
            path = Path(parent) / name
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                yield path
        if not recursive:
            return


def _read(path: Path, name: str) -> Source:
    try:
        with path.open("rb") as file:
            return Source(name, file.read(MAX_TEXT_BYTES + 1))
    except OSError as err:
        raise UsageError(f"{name}: {err.strerror or err}") from err
