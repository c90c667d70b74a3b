"""Kubeconfigs: what is found, and what is said when something is missing."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from pybrix.base.errors import UsageError
from pybrix.kube.kubeconfig import ClusterAccess, load_in_cluster, load_kubeconfig
from tests.support.certificates import Authority


def write(directory: Path, **changes: Any) -> Path:
    """Write a kubeconfig of two contexts; `changes` replace the fields of the first one's cluster and user."""
    cluster = {"server": "https://127.0.0.1:6443/"} | changes.get("cluster", {})
    user = {"token": "secret"} | changes.get("user", {})
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "other", "context": {"cluster": "d", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": cluster}, {"name": "d", "cluster": {"server": "http://localhost:8001"}}],
        "users": [{"name": "u", "user": {k: v for k, v in user.items() if v is not None}}],
    } | changes.get("document", {})
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_current_context_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path)
    want = ClusterAccess("https://127.0.0.1:6443", token="secret", namespace="shop", source=str(path))
    assert load_kubeconfig(path) == want


def test_another_context_can_be_named(tmp_path: Path) -> None:
    access = load_kubeconfig(write(tmp_path), "other")
    assert (access.server, access.namespace) == ("http://localhost:8001", "default")
    assert access.ssl_context() is None


def test_certificates_come_as_data_or_as_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    authority = Authority()
    certificate, private_key = authority.issue("admin")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    (tmp_path / "admin.key").write_bytes(private_key)
    user = {"client-certificate-data": base64.b64encode(certificate).decode(), "client-key": "admin.key"}
    access = load_kubeconfig(write(tmp_path, cluster={"certificate-authority": "ca.crt"}, user=user))
    assert (access.ca, access.certificate, access.private_key) == (authority.pem, certificate, private_key)
    context = access.ssl_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


def test_verification_can_be_switched_off(tmp_path: Path) -> None:
    context = load_kubeconfig(write(tmp_path, cluster={"insecure-skip-tls-verify": True})).ssl_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"document": {"current-context": ""}}, "current-context is not set"),
        ({"document": {"current-context": "gone"}}, "contexts has no entry named 'gone' (there are: main, other)"),
        ({"document": {"clusters": None}}, "clusters has no entry named 'c' (there are: none)"),
        ({"document": {"users": []}}, "users has no entry named 'u'"),
        ({"cluster": {"server": "127.0.0.1"}}, "clusters[c].cluster.server is no URL: '127.0.0.1'"),
        ({"cluster": {"proxy-url": "http://p"}}, "clusters[c].cluster.proxy-url is not supported"),
        ({"cluster": {"certificate-authority-data": "?"}}, "certificate-authority-data is not base64"),
        ({"cluster": {"certificate-authority": "no.crt"}}, "clusters[c].cluster.certificate-authority names "),
        ({"user": {"client-key-data": "eA=="}}, "users[u].user.client-certificate-data is missing"),
        ({"user": {"exec": {"command": "aws"}}}, "users[u].user.exec is not supported (use a token"),
    ],
)
def test_a_message_names_file_field_and_remedy(tmp_path: Path, changes: dict[str, Any], want: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError) as failure:
        load_kubeconfig(path)
    assert str(failure.value).startswith(f"{path}: ")
    assert want in str(failure.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the kubeconfig .*nothing: No such file.*pybrix up"):
        load_kubeconfig(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["[unclosed", "- a list", ""])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes"
    path.write_text(text)
    with pytest.raises(UsageError, match="is it a kubeconfig"):
        load_kubeconfig(path)


def test_bad_certificates_are_told_with_their_source(tmp_path: Path) -> None:
    garbage = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n").decode()
    path = write(tmp_path, cluster={"certificate-authority-data": garbage})
    with pytest.raises(UsageError, match=r"kubeconfig: the certificate authority is not valid PEM"):
        load_kubeconfig(path).ssl_context()
    path = write(tmp_path, user={"client-certificate-data": garbage, "client-key-data": garbage})
    with pytest.raises(UsageError, match=r"kubeconfig: client certificate and key do not work"):
        load_kubeconfig(path).ssl_context()


def test_a_pods_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    (tmp_path / "ca.crt").write_bytes(b"ca")
    (tmp_path / "namespace").write_text("shop\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = load_in_cluster(environ, tmp_path)
    assert (access.server, access.namespace, access.ca) == ("https://[fd00::1]:443", "shop", b"ca")
    assert access.token_file == tmp_path / "token"


def test_outside_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is not a pod"):
        load_in_cluster({}, tmp_path)
    with pytest.raises(UsageError, match="cannot read the service account"):
        load_in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)
