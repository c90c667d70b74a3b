"""Write the kubeconfig with which `kubectl`, client libraries and pybrix's own processes reach the embedded cluster."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from pybrix.base.errors import UsageError
from pybrix.cluster.pki import ADMIN_NAME, Pki

CLUSTER_NAME = "pybrix"


def render_kubeconfig(*, url: str, pki: Pki) -> dict[str, Any]:
    """Return the kubeconfig: the certificate authority, a client certificate and the bearer token inline."""
    user = {
        "token": pki.token,
        "client-certificate-data": _encode(pki.client_cert_pem),
        "client-key-data": _encode(pki.client_key_pem),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CLUSTER_NAME, "cluster": {"server": url, "certificate-authority-data": _encode(pki.ca_pem)}}
        ],
        "users": [{"name": ADMIN_NAME, "user": user}],
        "contexts": [
            {
                "name": CLUSTER_NAME,
                "context": {"cluster": CLUSTER_NAME, "user": ADMIN_NAME, "namespace": "default"},
            }
        ],
        "current-context": CLUSTER_NAME,
    }


def write_kubeconfig(path: Path, *, url: str, pki: Pki) -> None:
    """Write the kubeconfig with mode 0600, in one step.

    Raises:
        UsageError: the file cannot be written.
    """
    text = yaml.safe_dump(render_kubeconfig(url=url, pki=pki), sort_keys=False)
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as err:
        raise UsageError(f"cannot write the kubeconfig {path}: {err.strerror}") from err


def _encode(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
