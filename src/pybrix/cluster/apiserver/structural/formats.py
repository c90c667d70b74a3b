"""String formats of a schema, as far as a Kubernetes API server checks them; others say nothing. Pure.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date
from urllib.parse import urlsplit

from pybrix.base.clock import parse_rfc3339

_EMAIL = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9.-]{1,255}")
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_DURATION = re.compile(
    r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*)"
)
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _full(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _uri(text: str) -> None:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise ValueError("neither a scheme nor an absolute path")


_CHECKS: dict[str, Callable[[str], bool]] = {
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "cidr": _parses(lambda text: ipaddress.ip_interface(text if "/" in text else "no range")),
    "date": _parses(date.fromisoformat),
    "date-time": _parses(parse_rfc3339),
    "duration": _full(_DURATION),
    "email": _full(_EMAIL),
    "hostname": _full(_HOSTNAME),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "mac": _full(_MAC),
    "uri": _parses(_uri),
    "uuid": _parses(uuid.UUID),
}


def is_format(name: str, text: str) -> bool:
    """Say whether a text has a format; a format that is not known fits every text."""
    check = _CHECKS.get(name)
    return check is None or check(text)
