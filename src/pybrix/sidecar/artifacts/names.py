"""Names that come from others: file names of listings and archives, names of adapters, secrets and models. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pybrix.sidecar.artifacts.errors import ListingHostile

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 1024
MOST_FILES = 10_000
OWN_PREFIX = ".pybrix"
"""Names that begin so are the store's own."""

# What Kubernetes allows (a DNS subdomain: dots too), and what AIBrix allowed beyond it.
_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_adapter_name(name: str) -> bool:
    """Say whether an adapter may have this name."""
    return _ADAPTER.fullmatch(name) is not None


def is_secret_name(name: str) -> bool:
    """Say whether a Secret may have this name."""
    return _SUBDOMAIN.fullmatch(name) is not None and ".." not in name


def is_model_name(name: str) -> bool:
    """Say whether a model's directory may have this name."""
    return _MODEL.fullmatch(name) is not None


def checked_path(name: str) -> str:
    """Return a relative path with `/` between its parts that stays below whatever directory it is put in.

    Args:
        name: as a listing or an archive has it; a leading `./` is dropped.

    Raises:
        ListingHostile: it is absolute, climbs, or is no name of a file on this system.
    """
    path = name.removeprefix("./")
    parts = path.split("/")
    try:
        size = len(path.encode())
    except UnicodeEncodeError as err:
        raise ListingHostile(f"file name {_shown(name)} is no text") from err
    if not path or size > LONGEST_PATH_BYTES:
        raise ListingHostile(f"file name {_shown(name)} is empty or longer than {LONGEST_PATH_BYTES} bytes")
    for part in parts:
        if part in ("", ".", ".."):
            raise ListingHostile(f"file name {_shown(name)} leaves its directory, or has an empty part")
        if len(part.encode()) > LONGEST_NAME_BYTES:
            raise ListingHostile(f"file name {_shown(name)} has a part longer than {LONGEST_NAME_BYTES} bytes")
    # Backslashes and drive letters mean directories elsewhere; control characters only ever mislead.
    if "\\" in path or any(not character.isprintable() for character in path):
        raise ListingHostile(f"file name {_shown(name)} has characters that file names of artifacts do not have")
    if parts[0].startswith(OWN_PREFIX):
        raise ListingHostile(f"file name {_shown(name)} begins with {OWN_PREFIX!r}, which is the store's own")
    return path


def checked_paths(names: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of a whole listing.

    Raises:
        ListingHostile: one is not safe, two are the same, one is a directory of another, or there are too many.
    """
    paths = tuple(checked_path(name) for name in names)
    if len(paths) > MOST_FILES:
        raise ListingHostile(f"{len(paths)} files are more than {MOST_FILES}")
    seen = set(paths)
    if len(seen) != len(paths):
        raise ListingHostile("two files have the same name")
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in seen:
                raise ListingHostile(f"{_shown(parent)} is a file and a directory")
            parent = parent.rpartition("/")[0]
    return paths


def _shown(name: str) -> str:
    """Return a name for a message: printable, and not too long."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")
