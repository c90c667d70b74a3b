"""Find out how to reach an API server: from a kubeconfig file, or from a pod's service account."""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pybrix.base.errors import UsageError

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE_ACCOUNT_DIR_VARIABLE = "PYBRIX_SERVICE_ACCOUNT_DIR"
"""Names another directory, on machines where a pod cannot have files of its own at the usual place."""


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """An API server and the credentials for it.

    `token_file` wins over `token` and is read again from time to time, because kubelets rotate it.
    `certificate` and `private_key` are PEM and come together. `source` says in messages where this came from.
    """

    server: str
    ca: bytes | None = None
    certificate: bytes | None = None
    private_key: bytes | None = None
    token: str = ""
    token_file: Path | None = None
    is_verified: bool = True
    tls_server_name: str = ""
    namespace: str = "default"
    source: str = ""

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, or None for a server without TLS.

        Raises:
            UsageError: the CA or the client certificate cannot be used.
        """
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
        except (ssl.SSLError, ValueError) as err:
            raise UsageError(f"{self.source}: the certificate authority is not valid PEM: {err}") from err
        if not self.is_verified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.private_key:
            # ssl loads client certificates from files only.
            with tempfile.TemporaryDirectory(prefix="pybrix-") as directory:
                pem = Path(directory, "client.pem")
                pem.touch(mode=0o600)
                pem.write_bytes(self.certificate.rstrip() + b"\n" + self.private_key)
                try:
                    context.load_cert_chain(pem)
                except (ssl.SSLError, ValueError) as err:
                    raise UsageError(f"{self.source}: client certificate and key do not work: {err}") from err
        return context


def load_kubeconfig(path: Path, context: str = "") -> ClusterAccess:
    """Read a kubeconfig; `context` "" means its `current-context`. Relative file names are relative to the file.

    Raises:
        UsageError: the file is missing or incomplete; the message names file and field.
    """
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as err:
        remedy = "start a cluster with `pybrix up`, or name another file"
        raise UsageError(f"cannot read the kubeconfig {path}: {err.strerror}", remedy) from err
    except yaml.YAMLError as err:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(err).split())}", "is it a kubeconfig?") from err
    return _Kubeconfig(path, document).access(context)


def load_in_cluster(environ: Mapping[str, str], directory: Path = SERVICE_ACCOUNT_DIR) -> ClusterAccess:
    """Read the service account that Kubernetes mounts into every pod; `environ` are the process's variables.

    PYBRIX_SERVICE_ACCOUNT_DIR, where it is set, names the directory instead.

    Raises:
        UsageError: this process does not run in a pod, or its pod mounts no service account.
    """
    directory = Path(environ.get(SERVICE_ACCOUNT_DIR_VARIABLE) or directory)
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError("KUBERNETES_SERVICE_HOST is not set: this is not a pod", "name a file with --kubeconfig")
    try:
        (directory / "token").read_text()
        ca = (directory / "ca.crt").read_bytes()
    except OSError as err:
        remedy = "is automountServiceAccountToken false?"
        raise UsageError(f"cannot read the service account in {directory}: {err.strerror}", remedy) from err
    namespace_file = directory / "namespace"
    return ClusterAccess(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ca=ca,
        token_file=directory / "token",
        namespace=namespace_file.read_text().strip() if namespace_file.exists() else "default",
        source=str(directory),
    )


class _Kubeconfig:
    """One parsed file, and the messages about it."""

    def __init__(self, path: Path, document: Any) -> None:
        self._path = path
        if not isinstance(document, dict):
            raise self._error("the document", "is no mapping", "is it a kubeconfig?")
        self._document: dict[str, Any] = document

    def access(self, context_name: str) -> ClusterAccess:
        name = context_name or self._document.get("current-context") or ""
        if not name:
            raise self._error("current-context", "is not set", "kubectl config use-context NAME")
        context = self._named("contexts", "context", name)
        cluster_name, user_name = context.get("cluster", ""), context.get("user", "")
        cluster = self._named("clusters", "cluster", cluster_name)
        where = f"clusters[{cluster_name}].cluster"
        server = cluster.get("server", "")
        if not isinstance(server, str) or not server.startswith(("https://", "http://")):
            raise self._error(f"{where}.server", f"is no URL: {server!r}", "it looks like https://HOST:PORT")
        if cluster.get("proxy-url"):
            raise self._error(f"{where}.proxy-url", "is not supported", "use a context that needs no proxy")
        user = self._named("users", "user", user_name) if user_name else {}
        credentials = f"users[{user_name}].user"
        for field in ("exec", "auth-provider", "username", "as"):
            if user.get(field):
                remedy = "use a token or a client certificate; `kubectl create token SERVICE_ACCOUNT` makes one"
                raise self._error(f"{credentials}.{field}", "is not supported", remedy)
        certificate = self._data_or_file(user, "client-certificate", credentials)
        private_key = self._data_or_file(user, "client-key", credentials)
        if (certificate is None) != (private_key is None):
            missing = "client-certificate-data" if certificate is None else "client-key-data"
            raise self._error(f"{credentials}.{missing}", "is missing", "certificate and key come together")
        token_file = user.get("tokenFile")
        return ClusterAccess(
            server=server.rstrip("/"),
            ca=self._data_or_file(cluster, "certificate-authority", where),
            certificate=certificate,
            private_key=private_key,
            token=str(user.get("token") or ""),
            token_file=self._path.parent / token_file if token_file else None,
            is_verified=not cluster.get("insecure-skip-tls-verify", False),
            tls_server_name=str(cluster.get("tls-server-name") or ""),
            namespace=str(context.get("namespace") or "default"),
            source=str(self._path),
        )

    def _named(self, section: str, field: str, name: str) -> dict[str, Any]:
        entries = [e for e in self._document.get(section) or [] if isinstance(e, dict)]
        for entry in entries:
            if entry.get("name") == name:
                found = entry.get(field) or {}
                if not isinstance(found, dict):
                    raise self._error(f"{section}[{name}].{field}", "is no mapping")
                return found
        names = ", ".join(str(e.get("name")) for e in entries) or "none"
        raise self._error(section, f"has no entry named {name!r}", f"there are: {names}")

    def _data_or_file(self, entry: Mapping[str, Any], field: str, where: str) -> bytes | None:
        """Return what `FIELD-data` (base64) holds or the file that `FIELD` names; data wins, as in kubectl."""
        if data := entry.get(f"{field}-data"):
            try:
                return base64.b64decode(data, validate=True)
            except (binascii.Error, TypeError, ValueError) as err:
                raise self._error(f"{where}.{field}-data", "is not base64") from err
        if not (name := entry.get(field)):
            return None
        file = self._path.parent / str(name)
        try:
            return file.read_bytes()
        except OSError as err:
            raise self._error(f"{where}.{field}", f"names {file}, which cannot be read: {err.strerror}") from err

    def _error(self, field: str, problem: str, remedy: str = "") -> UsageError:
        return UsageError(f"{self._path}: {field} {problem}", remedy)
