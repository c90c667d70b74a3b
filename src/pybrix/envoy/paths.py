"""Where a gateway's files and sockets are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EnvoyPaths:
    """Places that Envoy and the brain share.

    Args:
        run_dir: directory of mode 0700 with the Unix sockets; a socket's path is at most 107 bytes.
        gateway_dir: directory of the configuration files.
    """

    run_dir: Path
    gateway_dir: Path

    @property
    def decision_socket(self) -> Path:
        """Where the brain answers questions."""
        return self.run_dir / "decision.sock"

    @property
    def access_log_socket(self) -> Path:
        """Where the brain takes access-log records."""
        return self.run_dir / "accesslog.sock"

    @property
    def admin_socket(self) -> Path:
        """Where Envoy's admin interface listens."""
        return self.run_dir / "envoy-admin.sock"

    @property
    def bootstrap(self) -> Path:
        return self.gateway_dir / "envoy-bootstrap.json"

    @property
    def xds_dir(self) -> Path:
        return self.gateway_dir / "xds"

    @property
    def listeners(self) -> Path:
        return self.xds_dir / "listeners.json"

    @property
    def secrets(self) -> Path:
        return self.xds_dir / "secrets.json"

    @property
    def routes(self) -> Path:
        return self.xds_dir / "routes.json"

    @property
    def clusters(self) -> Path:
        return self.xds_dir / "clusters.json"

    def endpoints(self, file_name: str) -> Path:
        return self.xds_dir / file_name
