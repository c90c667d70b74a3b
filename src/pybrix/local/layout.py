"""Where the one-machine installation keeps its files. Every path follows from the data directory."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pybrix.base.errors import UsageError

# sun_path of a Unix socket address on Linux, less the final NUL.
_SOCKET_PATH_LIMIT_BYTES = 107
_LONGEST_SOCKET_NAME = "brain-admin.sock"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one data directory."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def cluster_dir(self) -> Path:
        return self.root / "cluster"

    @property
    def gateway_dir(self) -> Path:
        return self.root / "gateway"

    @property
    def gateway_configuration(self) -> Path:
        return self.gateway_dir / "configuration.json"

    @property
    def logs_dir(self) -> Path:
        return self.root / "logs"

    @property
    def state_file(self) -> Path:
        """What `pybrix status`, `chat` and `down` read: addresses and process ids."""
        return self.root / "up.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "up.lock"

    @property
    def run_dir(self) -> Path:
        """Directory of the Unix sockets: below the data directory, unless that is too long for a socket's address."""
        inside = self.root / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET_NAME)) <= _SOCKET_PATH_LIMIT_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"pybrix-{os.getuid()}-{digest}"

    def create(self) -> None:
        """Make the directories; those with sockets and keys are for this user only (0700).

        Raises:
            UsageError: a directory cannot be made, or somebody else owns the run directory.
        """
        for directory in (self.root, self.cluster_dir, self.gateway_dir, self.logs_dir, self.run_dir):
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as err:
                remedy = "free some space, or " if err.errno == errno.ENOSPC else ""
                raise UsageError(
                    f"data directory: cannot make {directory}: {err.strerror}",
                    f"{remedy}choose another place with --data-dir",
                ) from err
        owner = self.run_dir.stat()
        if owner.st_uid != os.getuid():
            raise UsageError(f"{self.run_dir} belongs to user {owner.st_uid}", "choose another --data-dir")
        self.run_dir.chmod(0o700)
