"""TLS towards clients: a certificate from files that are read again when they are replaced, without a restart. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.bootstrap import file_source
from pybrix.envoy.paths import EnvoyPaths

Config = dict[str, Any]

SECRET = "gateway"
_TYPE = "type.googleapis.com/"


def render_transport_socket(paths: EnvoyPaths) -> Config:
    """Return what makes a filter chain speak TLS 1.2 or newer; clients may choose HTTP/2 by ALPN."""
    certificate = {"name": SECRET, "sds_config": file_source(paths.secrets)}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [certificate],
            },
        },
    }


def render_secret(config: GatewayConfiguration) -> Config:
    """Return where the certificate and its key are.

    Envoy watches their directory for renames, as a mounted Kubernetes Secret is replaced: by one symbolic link in that
    directory. Both files are then read together; a pair that does not match leaves the old one in use.
    """
    certificate, key = config.tls_certificate_path, config.tls_key_path
    pair: Config = {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
    pair["watched_directory"] = {"path": str(PurePosixPath(certificate).parent)}
    return {"name": SECRET, "tls_certificate": pair}
