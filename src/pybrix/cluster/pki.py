"""The cluster's own certificate authority, certificates, token and signing key, kept in one directory of mode 0700."""

from __future__ import annotations

import hmac
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError

_CA_YEARS = 10
_LEAF_DAYS = 365
_RENEW_DAYS = 30
_SKEW = timedelta(minutes=5)
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
LOOPBACK_ADDRESSES = ("127.0.0.1",)
ADMIN_NAME = "pybrix-admin"
ADMIN_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class Pki:
    """What a server needs to be trusted and what a client needs to be let in. All PEM."""

    directory: Path
    ca_pem: bytes
    client_cert_pem: bytes
    client_key_pem: bytes
    token: str
    account_key_pem: bytes
    """Signs the tokens of service accounts."""

    @classmethod
    def load_or_create(cls, directory: Path, clock: Clock, *, api_address: str = "10.96.0.1") -> Pki:
        """Read the directory; make what is missing and renew what ends within 30 days.

        `api_address` is that of the Service of the API, for which the server's certificate counts too.

        Raises:
            UsageError: a file cannot be read or written, or holds something else.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            return cls._load(directory, clock.now(), (*LOOPBACK_ADDRESSES, api_address))
        except OSError as err:
            raise UsageError(f"cannot use the certificates in {directory}: {err.strerror}") from err
        except ValueError as err:
            remedy = "remove the directory; the next start makes new ones and writes a new kubeconfig"
            raise UsageError(f"the certificates in {directory} are damaged: {err}", remedy) from err

    @classmethod
    def _load(cls, directory: Path, now: datetime, addresses: Sequence[str]) -> Pki:
        ca_cert, ca_key = _authority(directory, now)
        for name, subject, of_server in (
            ("server", _name("pybrix-apiserver"), addresses),
            ("admin", _name(ADMIN_NAME, ADMIN_GROUP), ()),
        ):
            _leaf(directory, name, subject, of_server, ca_cert, ca_key, now)
        token_path = directory / "token"
        if not token_path.exists():
            _write(token_path, secrets.token_urlsafe(32).encode())
        return cls(
            directory,
            (directory / "ca.crt").read_bytes(),
            (directory / "admin.crt").read_bytes(),
            (directory / "admin.key").read_bytes(),
            token_path.read_text().strip(),
            _account_key(directory / "service-account.key"),
        )

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def server_ssl_context(self) -> ssl.SSLContext:
        """Return the server's side of TLS: a client certificate is asked for, and checked when it comes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.directory / "server.crt", self.directory / "server.key")
        context.load_verify_locations(cadata=self.ca_pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_ssl_context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """Return a client's side of TLS that trusts this authority only."""
        context = ssl.create_default_context(cadata=self.ca_pem.decode())
        if with_certificate:
            context.load_cert_chain(self.directory / "admin.crt", self.directory / "admin.key")
        return context


def _name(common_name: str, organisation: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(parts)


def _authority(directory: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    cert_path, key_path = directory / "ca.crt", directory / "ca.key"
    if cert_path.exists() and key_path.exists():
        certificate = x509.load_pem_x509_certificate(cert_path.read_bytes())
        if certificate.not_valid_after_utc - timedelta(days=_RENEW_DAYS) > now:
            return certificate, _read_key(key_path)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("pybrix-ca")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), now, timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    # A new authority makes every leaf worthless; they are made again below.
    for name in ("server", "admin"):
        (directory / f"{name}.crt").unlink(missing_ok=True)
    _write(key_path, _print_key(key))
    _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def _leaf(
    directory: Path,
    name: str,
    subject: x509.Name,
    addresses: Sequence[str],
    ca_cert: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> None:
    cert_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    if cert_path.exists() and key_path.exists():
        there = x509.load_pem_x509_certificate(cert_path.read_bytes())
        _read_key(key_path)
        is_lasting = there.not_valid_after_utc - timedelta(days=_RENEW_DAYS) > now
        if is_lasting and there.issuer == ca_cert.subject and _is_for(there, addresses):
            return
    key = ec.generate_private_key(ec.SECP256R1())
    usage = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(subject, ca_cert.subject, key.public_key(), now, timedelta(days=_LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if addresses:
        names: list[x509.GeneralName] = [x509.DNSName(n) for n in SERVER_NAMES]
        names += [x509.IPAddress(IPv4Address(a)) for a in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write(key_path, _print_key(key))
    _write(cert_path, builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _is_for(certificate: x509.Certificate, addresses: Sequence[str]) -> bool:
    """Say whether a certificate names these addresses; a client's names none."""
    if not addresses:
        return True
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(a) for a in names.get_values_for_type(x509.IPAddress)} == set(addresses)


def _account_key(path: Path) -> bytes:
    if not path.exists():
        _write(path, _print_key(ec.generate_private_key(ec.SECP256R1())))
    return _print_key(_read_key(path))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _print_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} is no elliptic-curve key")
    return key


def _write(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 in one step, so that a killed process leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
