"""What became of the requests: counts, times, every failure. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pybrix.bench.traffic import Kind

_QUANTILES = (0.5, 0.9, 0.99)
MAX_SHOWN_FAILURES = 20


class Cause(StrEnum):
    """How a request failed."""

    CONNECTION = "connection"
    """No answer: the connection could not be had, or ended before the headers."""
    REFUSED = "refused"
    """An answer with another status than 200."""
    CUT = "cut"
    """An answer that had begun and then broke off."""
    WRONG = "wrong"
    """A whole answer that is not the right one, or no answer at all."""
    SILENT = "silent"
    """Nothing came for too long."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that failed. `ended_s` is of the monotonic clock; `sent_at` is RFC 3339."""

    number: int
    kind: Kind
    cause: Cause
    detail: str
    sent_at: str
    after_s: float
    ended_s: float
    request_id: str = ""
    pod: str = ""

    def __str__(self) -> str:
        told = [f"#{self.number} {self.kind}", f"sent {self.sent_at}", f"after {self.after_s:.2f} s"]
        told += [f"request {self.request_id}"] if self.request_id else []
        told += [f"pod {self.pod}"] if self.pod else []
        return f"{', '.join(told)}: {self.cause}: {self.detail}"


@dataclass(slots=True)
class Times:
    """Seconds to the first byte and to the last, of the requests of a kind that went well."""

    first_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """What became of the requests so far."""

    sent: int = 0
    succeeded: int = 0
    failures: list[Failure] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    """Requests of each kind that went well."""
    pods: Counter[str] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0
    times: dict[Kind, Times] = field(default_factory=dict)
    slowest_s: float = 0.0
    latest_s: float = 0.0
    """How long after it was due a request was sent, at worst: above 0.1 this machine was too slow for the load."""
    elapsed_s: float = 0.0

    @property
    def open(self) -> int:
        return self.sent - self.succeeded - len(self.failures)

    @property
    def failed(self) -> list[Failure]:
        """Failures other than answers that broke off."""
        return [each for each in self.failures if each.cause is not Cause.CUT]

    @property
    def cut_streams(self) -> list[Failure]:
        """Answers that broke off."""
        return [each for each in self.failures if each.cause is Cause.CUT]


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the nearest-rank quantiles as `p50` and so on, in the unit of the values; empty without values."""
    ordered = sorted(values)
    return {
        f"p{100 * q:.0f}": round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 4)
        for q in _QUANTILES
        if ordered
    }


def document(tally: Tally) -> dict[str, Any]:
    """Return the report as `-o json` prints it."""
    return {
        "sent": tally.sent,
        "succeeded": tally.succeeded,
        "failed": len(tally.failures),
        "elapsedS": round(tally.elapsed_s, 3),
        "requestsPerS": round(tally.sent / tally.elapsed_s, 1) if tally.elapsed_s else 0.0,
        "receivedBytes": tally.received_bytes,
        "latestS": round(tally.latest_s, 3),
        "kinds": {
            str(kind): {
                "succeeded": tally.kinds[kind],
                "firstByteS": quantiles(times.first_s),
                "wholeS": quantiles(times.whole_s),
            }
            for kind, times in sorted(tally.times.items())
        },
        "pods": dict(tally.pods.most_common()),
        "strategies": dict(tally.strategies.most_common()),
        "failures": [
            {
                "number": each.number,
                "kind": str(each.kind),
                "cause": str(each.cause),
                "detail": each.detail,
                "sentAt": each.sent_at,
                "afterS": round(each.after_s, 3),
                "requestId": each.request_id or None,
                "pod": each.pod or None,
            }
            for each in tally.failures
        ],
    }


def table(tally: Tally) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of what went well, a row for each kind; times in milliseconds."""
    head = ("KIND", "OK", "FAILED", "FIRST P50", "P99", "WHOLE P50", "P99")
    failed = Counter(each.kind for each in tally.failures)
    rows = []
    for kind in Kind:
        if not tally.kinds[kind] and not failed[kind]:
            continue
        times = tally.times.get(kind, Times())
        first, whole = quantiles(times.first_s), quantiles(times.whole_s)
        shown = [first.get("p50"), first.get("p99"), whole.get("p50"), whole.get("p99")]
        times_ms = ["-" if value is None else f"{1000 * value:.0f} ms" for value in shown]
        rows.append((str(kind), str(tally.kinds[kind]), str(failed[kind]), *times_ms))
    return head, rows


def summary(tally: Tally) -> str:
    """Return the verdict and every failure, up to a limit."""
    lines = [f"  {each}" for each in tally.failures[:MAX_SHOWN_FAILURES]]
    if (more := len(tally.failures) - len(lines)) > 0:
        lines.append(f"  and {more} more; -o json has them all")
    verdict = f"{tally.sent} requests in {tally.elapsed_s:.1f} s, {len(tally.failures)} failed"
    if tally.latest_s > 0.1:
        lines.append(f"  this machine was up to {tally.latest_s:.2f} s late with sending: it is too slow for that rate")
    return "\n".join([verdict, *lines])


def progress(tally: Tally, elapsed_s: float) -> str:
    """Return one line about how it goes."""
    return (
        f"{elapsed_s:5.0f} s  {tally.sent} sent  {tally.succeeded} ok  {len(tally.failures)} failed  {tally.open} open"
    )
