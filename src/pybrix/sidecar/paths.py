"""Which absolute paths requests may name, and what mounted Secrets hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.names import is_secret_name
from pybrix.sidecar.errors import RequestError

_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/run", "/var/run", "/root", "/boot")
_LARGEST_SECRET_BYTES = 1024 * 1024


class PathRules:
    """Absolute paths that may be handed to the engine or written to.

    Args:
        allowed: directories; all but the system's own when empty.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(os.path.normpath(path) for path in allowed)

    def check(self, path: str, param: str) -> str:
        """Return the path without redundant parts.

        What it leads to counts too, where it is visible here: the engine may see other mounts.

        Raises:
            RequestError: 403.
        """
        normal = os.path.normpath(path)
        if not path.startswith("/") or ".." in path.split("/"):
            raise RequestError(422, "InvalidPath", f"{param} must be an absolute path without '..'", param)
        for candidate in (normal, os.path.realpath(normal)):
            if not self._allows(candidate):
                raise RequestError(403, "PathNotAllowed", f"{param}: the sidecar does not allow this path", param)
        return normal

    def _allows(self, path: str) -> bool:
        if self._allowed:
            return any(_is_within(path, root) for root in self._allowed)
        return path != "/" and not any(_is_within(path, root) for root in _SYSTEM)


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def read_secret(secrets_dir: Path, name: str) -> Credentials:
    """Return a mounted Secret: one file for each key, in a directory of the Secret's name. Blocking.

    A Secret that is mounted at the directory itself is found too, as AIBrix mounts it.

    Raises:
        RequestError: 422 for what is no name, 400 when no such Secret is mounted.
    """
    if not is_secret_name(name):
        raise RequestError(422, "InvalidName", "credentials_secret is no name of a Secret", "credentials_secret")
    directory = secrets_dir / name
    if not directory.is_dir():
        directory = secrets_dir
    data: dict[str, str] = {}
    # Kubernetes keeps the files elsewhere and links them; both are within the mount.
    mount = os.path.realpath(directory)
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            is_inside = _is_within(os.path.realpath(path), mount)
            if path.name.startswith("..") or not is_inside or not path.is_file():
                continue
            if path.stat().st_size > _LARGEST_SECRET_BYTES:
                continue
            data[path.name] = path.read_text(errors="replace")
    if not data:
        raise RequestError(400, "SecretNotMounted", f"no Secret {name!r} is mounted here", "credentials_secret")
    return Credentials(data)
