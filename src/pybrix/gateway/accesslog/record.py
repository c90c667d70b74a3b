"""One access-log record, decoded from what Envoy's fluentd logger sends. Pure.

A value that Envoy does not have is null, "" or `-`; numbers arrive as numbers or as text, depending on the operator
that made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from pybrix.envoy.wire import LogField
from pybrix.gateway.framework.outcome import AccessRecord

_RENEWAL = "DownstreamPeriodic"
_MAX_TOKENS = 1 << 40


Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_TOKENS)]


class EnvoyRecord(msgspec.Struct, gc=False):
    """A record of the types that Envoy sends, to be decoded in one step. Its fields are those of `LogField`."""

    type: str = ""
    reservation: str | None = None
    upstream: str | None = None
    status: Count | None = None
    flags: str | None = None
    ttft_ms: Count | None = None
    duration_ms: Count | None = None
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    cached_tokens: int | float | None = None
    attempts: Count | None = None
    request_id: str | None = None
    cluster: str | None = None

    def read(self) -> AccessRecord:
        """Return what `read_record` makes of the same fields, at a fraction of its cost."""
        # By position: keywords cost as much again.
        return AccessRecord(
            _text(self.reservation),
            self.type == _RENEWAL,
            _text(self.upstream),
            self.status or 0,
            _text(self.flags),
            self.ttft_ms,
            self.duration_ms or 0,
            _whole(self.prompt_tokens),
            _whole(self.completion_tokens),
            _whole(self.cached_tokens),
            self.attempts or 0,
            _text(self.request_id),
            _text(self.cluster),
        )


def read_record(fields: Mapping[Any, Any]) -> AccessRecord:
    """Return the record; a field of an unexpected type counts as absent."""
    get = fields.get
    return AccessRecord(
        reservation=_text(get(LogField.RESERVATION)),
        is_renewal=get(LogField.RECORD_TYPE) == _RENEWAL,
        upstream=_text(get(LogField.UPSTREAM)),
        status=_whole(get(LogField.STATUS)),
        flags=_text(get(LogField.FLAGS)),
        ttft_ms=_number(get(LogField.TTFT_MS)),
        duration_ms=_number(get(LogField.DURATION_MS)) or 0.0,
        prompt_tokens=_whole(get(LogField.PROMPT_TOKENS)),
        completion_tokens=_whole(get(LogField.COMPLETION_TOKENS)),
        cached_tokens=_whole(get(LogField.CACHED_TOKENS)),
        attempts=_whole(get(LogField.ATTEMPTS)),
        request_id=_text(get(LogField.REQUEST_ID)),
        cluster=_text(get(LogField.CLUSTER)),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value != "-" else ""


def _number(value: Any) -> float | None:
    """Return a number from 0 on, or None. Engines make some of these: nothing they say may raise."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_TOKENS:
        return None
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is int and 0 <= value <= _MAX_TOKENS:
        return value
    number = _number(value)
    return int(number) if number is not None else 0
