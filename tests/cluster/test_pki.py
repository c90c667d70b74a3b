"""The cluster's certificates: made once, kept, renewed in time, readable by their owner only."""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from pybrix.base.errors import UsageError
from pybrix.cluster.kubeconfig import write_kubeconfig
from pybrix.cluster.pki import Pki


@dataclass
class At:
    """A clock that stands still."""

    moment: datetime = datetime(2026, 11, 22, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return 0.0


def certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())


def test_second_start_keeps_everything(tmp_path: Path) -> None:
    assert Pki.load_or_create(tmp_path / "pki", At()) == Pki.load_or_create(tmp_path / "pki", At())


def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    pki = Pki.load_or_create(tmp_path / "pki", At())
    assert stat.S_IMODE(pki.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.directory.iterdir()} == {0o600}


def test_certificate_is_renewed_before_it_ends_under_the_same_authority(tmp_path: Path) -> None:
    first = Pki.load_or_create(tmp_path, At())
    before = certificate(tmp_path, "server")
    later = Pki.load_or_create(tmp_path, At(At().moment + timedelta(days=340)))
    after = certificate(tmp_path, "server")
    assert after.serial_number != before.serial_number
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert (later.ca_pem, later.token) == (first.ca_pem, first.token)
    after.verify_directly_issued_by(certificate(tmp_path, "ca"))


def test_authority_that_ends_is_replaced_with_all_its_certificates(tmp_path: Path) -> None:
    first = Pki.load_or_create(tmp_path, At())
    later = Pki.load_or_create(tmp_path, At(At().moment + timedelta(days=3640)))
    assert later.ca_pem != first.ca_pem
    for name in ("server", "admin"):
        certificate(tmp_path, name).verify_directly_issued_by(certificate(tmp_path, "ca"))


def test_strict_verification_accepts_the_chain(tmp_path: Path) -> None:
    pki = Pki.load_or_create(tmp_path, At())
    context = pki.client_ssl_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    names = certificate(tmp_path, "server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert "127.0.0.1" in [str(a) for a in names.get_values_for_type(x509.IPAddress)]


def test_damaged_certificate_says_what_to_do(tmp_path: Path) -> None:
    Pki.load_or_create(tmp_path, At())
    (tmp_path / "ca.crt").write_text("rubbish")
    with pytest.raises(UsageError, match="remove the directory"):
        Pki.load_or_create(tmp_path, At())


def test_kubeconfig_is_complete_private_and_replaced_whole(tmp_path: Path) -> None:
    pki = Pki.load_or_create(tmp_path / "pki", At())
    path = tmp_path / "kubeconfig"
    path.write_text("old")
    path.chmod(0o644)
    write_kubeconfig(path, url="https://127.0.0.1:6443", pki=pki)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    config = yaml.safe_load(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert config["users"][0]["user"]["token"] == pki.token


def test_kubeconfig_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    pki = Pki.load_or_create(tmp_path / "pki", At())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the kubeconfig"):
        write_kubeconfig(tmp_path / "file" / "kubeconfig", url="https://127.0.0.1:1", pki=pki)
