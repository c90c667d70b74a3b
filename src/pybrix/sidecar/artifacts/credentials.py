"""Credentials as requests and mounted Secrets hold them, and what each kind of source takes from them. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from pybrix.sidecar.artifacts.errors import SourceInvalid

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,8192}")
# These would change how the request is framed or where it goes.
_FRAMING = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "range", "if-range", "accept-encoding", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class BucketCredentials:
    """Keys of an S3-like store; anonymous when empty. `endpoint` and `region` are None when not given."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    endpoint: str | None = None
    region: str | None = None


class ServiceAccount(msgspec.Struct, frozen=True):
    """The parts of a Google service account's key file that a token is asked with."""

    client_email: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email})"


class Credentials:
    """The data of one Secret. Names count without case, and `-` as `_`: Secrets are written in every style.

    Args:
        data: as a request or a mounted Secret has it.

    `repr` shows no values.
    """

    def __init__(self, data: Mapping[str, str] | None = None) -> None:
        self._data = {_normal(name): value.strip() for name, value in (data or {}).items() if value.strip()}

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._data))})"

    def __bool__(self) -> bool:
        return bool(self._data)

    def merged(self, others: Credentials) -> Credentials:
        """Return these and those; of one name, these count."""
        return Credentials({**others._data, **self._data})

    def canonical(self) -> bytes:
        """Return bytes that are the same for the same data; as secret as the data."""
        return msgspec.json.encode(sorted(self._data.items()))

    def hub_token(self) -> str:
        """Return the model hub's token, empty when there is none."""
        return _header_safe(self._first("huggingface_token", "hf_token", "hugging_face_hub_token"), "huggingface_token")

    def s3(self) -> BucketCredentials:
        """Return what an S3 bucket takes.

        Raises:
            SourceInvalid: one of the two keys is missing.
        """
        return self._bucket(
            self._first("aws_access_key_id", "access_key_id"),
            self._first("aws_secret_access_key", "secret_access_key"),
            self._first("aws_session_token", "session_token"),
            self._first("aws_endpoint_url_s3", "aws_endpoint_url", "endpoint_url", "endpoint"),
            self._first("aws_region", "aws_default_region", "region"),
            "aws_access_key_id and aws_secret_access_key",
        )

    def tos(self) -> BucketCredentials:
        """Return what a TOS bucket takes.

        Raises:
            SourceInvalid: one of the two keys is missing.
        """
        return self._bucket(
            self._first("tos_access_key", "ak", "access_key"),
            self._first("tos_secret_key", "sk", "secret_key"),
            self._first("tos_session_key", "session_key"),
            self._first("tos_endpoint", "endpoint"),
            self._first("tos_region", "region"),
            "TOS_ACCESS_KEY and TOS_SECRET_KEY",
        )

    def service_account(self) -> ServiceAccount | None:
        """Return the Google service account, or None.

        Raises:
            SourceInvalid: it is no key file.
        """
        text = self._first("gcp_service_account_json", "service_account_json", "google_application_credentials_json")
        if not text:
            return None
        try:
            return msgspec.json.decode(text, type=ServiceAccount)
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            # The parser's message quotes what it read: not in ours.
            raise SourceInvalid("gcp_service_account_json is no key file of a service account") from err

    def headers(self) -> dict[str, str]:
        """Return the headers for a web server: those of `headers` (JSON), or a bearer token, or user and password.

        Raises:
            SourceInvalid: they cannot be headers.
        """
        text = self._first("headers")
        if text:
            try:
                headers = msgspec.json.decode(text, type=dict[str, str])
            except (msgspec.MsgspecError, UnicodeDecodeError) as err:
                raise SourceInvalid("headers is no JSON object of texts") from err
            for name, value in headers.items():
                if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
                    raise SourceInvalid("headers has a name that cannot be sent")
                _header_safe(value, "headers")
            return headers
        token = self._first("http_token", "bearer_token")
        if token:
            return {"Authorization": f"Bearer {_header_safe(token, 'http_token')}"}
        user, password = self._first("http_username", "username"), self._first("http_password", "password")
        if user or password:
            pair = b64encode(f"{user}:{password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    def _first(self, *names: str) -> str:
        return next((self._data[name] for name in names if name in self._data), "")

    def _bucket(
        self, access_key: str, secret_key: str, session_token: str, endpoint: str, region: str, names: str
    ) -> BucketCredentials:
        if bool(access_key) != bool(secret_key):
            raise SourceInvalid(f"of {names} only one is there")
        for text in (access_key, session_token, region):
            _header_safe(text, names)
        return BucketCredentials(access_key, secret_key, session_token, endpoint or None, region or None)


def _normal(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _header_safe(text: str, name: str) -> str:
    if not _HEADER_VALUE.fullmatch(text):
        raise SourceInvalid(f"{name} has characters that no HTTP header can carry")
    return text
