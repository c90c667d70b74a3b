"""Where the one-machine installation keeps its files. Every path follows from the data directory."""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pybrix.base.errors import UsageError
from pybrix.envoy.paths import EnvoyPaths
from pybrix.local.defaults import DEFAULT_DATA_DIR

# sun_path of a Unix socket address on Linux, less the final NUL.
_SOCKET_PATH_LIMIT_BYTES = 107
MAX_GATEWAYS = 16
_BRAIN_SOCKET_NAME = "brain-admin.sock"
"""The longest name of a socket in a run directory."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an Envoy, and what is beside it, keeps files (`directory`) and sockets (`run_dir`)."""

    directory: Path
    run_dir: Path

    @property
    def configuration(self) -> Path:
        return self.directory / "configuration.json"

    @property
    def envoy_paths(self) -> EnvoyPaths:
        return EnvoyPaths(self.run_dir, self.directory)

    def create(self) -> None:
        """Make the directories, for this user only (0700).

        Raises:
            UsageError: one cannot be made, or somebody else owns the run directory.
        """
        _make((self.directory, self.run_dir))
        _check_owner(self.run_dir)


@dataclass(frozen=True, slots=True)
class GatewayPlace(Place):
    """One of several gateways."""

    number: int

    @property
    def suffix(self) -> str:
        """What the names of its components and logs end in: nothing for the first, `-2`, `-3` and so on."""
        return "" if self.number == 1 else f"-{self.number}"

    @property
    def brain_socket(self) -> Path:
        """Where the brain tells of itself."""
        return self.run_dir / _BRAIN_SOCKET_NAME


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one data directory."""

    root: Path

    def command(self, words: str) -> str:
        """Return a command of `pybrix` on this data directory, for a message that advises it."""
        is_default = self.root == Path(DEFAULT_DATA_DIR).expanduser()
        return f"pybrix {words}" if is_default else f"pybrix {words} --data-dir {shlex.quote(str(self.root))}"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def cluster_dir(self) -> Path:
        return self.root / "cluster"

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
        return self._run_dir("run")

    @property
    def peers_dir(self) -> Path:
        """Where several gateways without Redis find each other."""
        return self._run_dir("peers")

    @property
    def control_socket(self) -> Path:
        """Where the supervisor takes orders."""
        return self.run_dir / "supervisor.sock"

    @property
    def balancer(self) -> Place:
        """The balancer in front of several gateways."""
        return Place(self.root / "balancer", self._run_dir("run-balancer"))

    def gateway(self, number: int) -> GatewayPlace:
        """Return where gateway `number` is, counted from 1; the first one is where a single one has always been."""
        suffix = "" if number == 1 else f"-{number}"
        return GatewayPlace(self.root / f"gateway{suffix}", self._run_dir(f"run{suffix}"), number)

    def places(self) -> Iterator[Place]:
        """Yield every place that there may be: the balancer's, and those of as many gateways as can be."""
        yield self.balancer
        for number in range(1, MAX_GATEWAYS + 1):
            yield self.gateway(number)

    def _run_dir(self, name: str) -> Path:
        inside = self.root / name
        if len(os.fsencode(inside / _BRAIN_SOCKET_NAME)) <= _SOCKET_PATH_LIMIT_BYTES:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        suffix = name.removeprefix("run")
        return Path(tempfile.gettempdir()) / f"pybrix-{os.getuid()}-{digest}{suffix}"

    @property
    def controllers_socket(self) -> Path:
        """Where the controllers answer about their health."""
        return self.run_dir / "controllers.sock"

    def create(self) -> None:
        """Make the directories; those with sockets and keys are for this user only (0700).

        Raises:
            UsageError: a directory cannot be made, or somebody else owns the run directory.
        """
        first = self.gateway(1)
        _make((self.root, self.cluster_dir, first.directory, self.logs_dir, self.run_dir))
        _check_owner(self.run_dir)


def _make(directories: Iterable[Path]) -> None:
    for directory in directories:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as err:
            remedy = "free some space, or " if err.errno == errno.ENOSPC else ""
            raise UsageError(
                f"data directory: cannot make {directory}: {err.strerror}",
                f"{remedy}choose another place with --data-dir",
            ) from err


def _check_owner(directory: Path) -> None:
    if (owner := directory.stat().st_uid) != os.getuid():
        raise UsageError(f"{directory} belongs to user {owner}", "choose another --data-dir")
