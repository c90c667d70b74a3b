"""What a metadata server may answer instead of doing what it was asked. Pure.

StoreError                 `reason` is the reason of the condition that tells people
├── Unreachable            nobody answers there
├── TimedOut               it is slow, or stopped
├── TlsFailed              one side speaks TLS and the other does not, or a certificate is not trusted
├── AuthenticationFailed   wrong user or password, or none where one is asked for
├── PermissionDenied       the user may not do this with these keys
├── NoQuorum               too few members of its cluster are there to agree
├── ReadOnly               it answers, and takes no writes
├── KeyTaken               another object publishes there, or another program keeps something there
├── NoSpace                its room for keys is used up
└── NotSupported           it is no such server, or a part of it is switched off
"""

from __future__ import annotations

from typing import ClassVar

from pybrix.base.errors import PybrixError


class StoreError(PybrixError):
    """A metadata server did not do what it was asked."""

    reason: ClassVar[str] = "Failed"
    is_reachable: ClassVar[bool] = False
    """Whether the server can be said to be there and to know us: then only what it was asked is impossible."""


class Unreachable(StoreError):
    reason = "Unreachable"


class TimedOut(StoreError):
    reason = "TimedOut"


class TlsFailed(StoreError):
    reason = "TLSFailed"


class AuthenticationFailed(StoreError):
    reason = "AuthenticationFailed"


class PermissionDenied(StoreError):
    reason = "PermissionDenied"
    is_reachable = True


class NoQuorum(StoreError):
    reason = "NoQuorum"


class ReadOnly(StoreError):
    reason = "ReadOnly"
    is_reachable = True


class NoSpace(StoreError):
    reason = "NoSpace"
    is_reachable = True


class KeyTaken(StoreError):
    reason = "KeyTaken"
    is_reachable = True


class NotSupported(StoreError):
    reason = "NotSupported"


def no_membership(key: str) -> str:
    """Return what people are told of a key that holds something else."""
    return f"{key} holds something that is no membership; remove it if nobody needs it"
