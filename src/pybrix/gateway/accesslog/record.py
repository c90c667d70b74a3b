"""One access-log record, decoded from what Envoy's fluentd logger sends. Pure.

A value that Envoy does not have is null, "" or `-`; numbers arrive as numbers or as text, depending on the operator
that made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.envoy.wire import LogField
from pybrix.gateway.framework.outcome import AccessRecord

_RENEWAL = "DownstreamPeriodic"
_MAX_TOKENS = 1 << 40


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
