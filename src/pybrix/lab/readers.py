"""Read traces as they are: Mooncake's JSON Lines, Azure's CSV, and a user's own CSV or JSON Lines. Pure: text in.

Mooncake   JSON Lines with `timestamp` (ms), `input_length`, `output_length`, `hash_ids` (512 tokens each)
Azure      CSV with `TIMESTAMP` (date and time), `ContextTokens`, `GeneratedTokens`
one's own  CSV or JSON Lines with `at_s`, `prompt_tokens`, `output_tokens`, and where wanted `hash_ids` (in CSV
           separated by spaces), `session`, `user`
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from pybrix.base.errors import UsageError
from pybrix.lab.trace import Trace, TraceRequest, is_block_size

MOONCAKE_BLOCK_TOKENS = 512
MAX_SPREAD_S = 10.0
_MAX_TOKENS = 10_000_000


class _Mooncake(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


class _Own(msgspec.Struct):
    at_s: float
    prompt_tokens: int
    output_tokens: int
    hash_ids: list[int] = []
    session: str = ""
    user: str = ""


class _BadLineError(Exception):
    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number


class _FreshIds:
    """Ids for prompts that share nothing."""

    def __init__(self) -> None:
        self._next = 1 << 40

    def take(self, tokens: int, block_tokens: int) -> Sequence[int]:
        first = self._next
        self._next += -(-tokens // block_tokens)
        return range(first, self._next)


def parse_trace(text: str, name: str, block_tokens: int = MOONCAKE_BLOCK_TOKENS) -> Trace:
    """Return the trace in a file's text.

    Args:
        name: of the file, for messages and results.
        block_tokens: what one of the `hash_ids` stands for.

    Raises:
        UsageError: a line is wrong; its number is named. Or the text is no trace.
    """
    if not is_block_size(block_tokens):
        raise UsageError(f"blocks of {block_tokens} tokens", "give a multiple of 32, or 16, 8, 4, 2, 1")
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise UsageError(f"{name} is empty")
    rows = _json_rows(lines) if lines[start].lstrip().startswith("{") else _csv_rows(lines, start, name)
    fresh = _FreshIds()
    try:
        found = [_request(number, row, fresh, block_tokens) for number, row in rows]
    except _BadLineError as err:
        raise UsageError(f"{name}, line {err.number}: {err}") from err
    if not found:
        raise UsageError(f"{name} has no requests")
    return _in_order(name, found, block_tokens)


def _json_rows(lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError as err:
            raise _BadLineError(number, f"no JSON: {err}") from err
        if not isinstance(row, dict):
            raise _BadLineError(number, "no JSON object")
        yield number, row


def _csv_rows(lines: Sequence[str], start: int, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(lines[start:])
    columns = [column.strip() for column in next(reader)]
    known = ({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}, {"at_s", "prompt_tokens", "output_tokens"})
    if not any(wanted <= set(columns) for wanted in known):
        raise UsageError(
            f"{name}, line {start + 1}: no trace has the columns {', '.join(columns)[:200]}",
            "the first line of a CSV names at_s,prompt_tokens,output_tokens or TIMESTAMP,ContextTokens,GeneratedTokens",
        )
    for values in reader:
        if not values:
            continue
        number = start + reader.line_num
        if len(values) != len(columns):
            raise _BadLineError(number, f"{len(values)} values for {len(columns)} columns")
        row: dict[str, Any] = {column: value.strip() for column, value in zip(columns, values, strict=True)}
        if "hash_ids" in row:
            row["hash_ids"] = row["hash_ids"].split()
        yield number, row


def _request(number: int, row: Mapping[str, Any], fresh: _FreshIds, block_tokens: int) -> TraceRequest:
    if "ContextTokens" in row:
        try:
            moment = datetime.fromisoformat(_microseconds(row["TIMESTAMP"]))
            at_s = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (KeyError, ValueError) as err:
            raise _BadLineError(number, f"TIMESTAMP is no date and time: {row.get('TIMESTAMP')!r}") from err
        columns = {"at_s": at_s, "prompt_tokens": row["ContextTokens"], "output_tokens": row.get("GeneratedTokens")}
        own = _convert(number, columns, _Own)
    elif "input_length" in row:
        given = _convert(number, row, _Mooncake)
        own = _Own(given.timestamp / 1000.0, given.input_length, given.output_length, given.hash_ids)
    else:
        own = _convert(number, row, _Own)
    for field, tokens in (("prompt", own.prompt_tokens), ("output", own.output_tokens)):
        if not 0 <= tokens <= _MAX_TOKENS:
            raise _BadLineError(number, f"{field} of {tokens} tokens")
    if not abs(own.at_s) < 1e12:
        raise _BadLineError(number, f"a time of {own.at_s}")
    prompt_tokens = max(1, own.prompt_tokens)
    ids: Sequence[int] = own.hash_ids
    whole, all_blocks = prompt_tokens // block_tokens, -(-prompt_tokens // block_tokens)
    if ids and len(ids) not in (whole, all_blocks):
        raise _BadLineError(
            number,
            f"{len(ids)} hash_ids for {own.prompt_tokens} tokens, which are {all_blocks} blocks of {block_tokens}",
        )
    if not ids:
        ids = fresh.take(prompt_tokens, block_tokens)
    # A request without an answer still makes one token.
    return TraceRequest(own.at_s, prompt_tokens, max(1, own.output_tokens), ids, session=own.session, user=own.user)


_Row = TypeVar("_Row", _Mooncake, _Own)


def _convert(number: int, row: Mapping[str, Any], kind: type[_Row]) -> _Row:
    try:
        return msgspec.convert(row, kind, strict=False)
    except msgspec.ValidationError as err:
        raise _BadLineError(number, str(err)) from err


def _microseconds(moment: str) -> str:
    """Cut Azure's seven decimals to the six that can be read."""
    whole, dot, rest = moment.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{whole}{dot}{digits[:6]}{rest[len(digits) :]}" if dot else moment


def _in_order(name: str, requests: Iterable[TraceRequest], block_tokens: int) -> Trace:
    ordered = sorted(requests, key=lambda request: request.at_s)
    begin_s = ordered[0].at_s
    moved = [msgspec.structs.replace(request, at_s=request.at_s - begin_s) for request in ordered]
    return Trace(name, moved, block_tokens, _spread_s([request.at_s for request in moved]))


def _spread_s(times: Sequence[float]) -> float:
    """Return the tick of a coarse clock: the usual gap between different times, where most times are there twice."""
    counts = Counter(times)
    shared = sum(count for count in counts.values() if count > 1)
    if shared * 2 < len(times) or len(counts) < 2:
        return 0.0
    distinct = sorted(counts)
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(distinct))
    return min(MAX_SPREAD_S, gaps[len(gaps) // 2])
