"""Show summaries: a table for people, JSON, CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

import msgspec

from pybrix.lab.comparison import Case
from pybrix.lab.summary import Summary, mean_of
from pybrix.lab.trace import Trace

_COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("STRATEGY", lambda s: s.strategy),
    ("LOAD", lambda s: "-" if s.load is None else f"{s.load:g}"),
    ("TTFT P50", lambda s: _seconds(s.ttft_p50_s)),
    ("P90", lambda s: _seconds(s.ttft_p90_s)),
    ("P99", lambda s: _seconds(s.ttft_p99_s)),
    ("E2E P50", lambda s: _seconds(s.e2e_p50_s)),
    ("P90", lambda s: _seconds(s.e2e_p90_s)),
    ("P99", lambda s: _seconds(s.e2e_p99_s)),
    ("HIT", lambda s: f"{100 * s.hit_ratio:.1f} %"),
    ("IMBALANCE", lambda s: f"{s.imbalance:.2f}"),
    ("REQ/S", lambda s: f"{s.requests_per_s:.2f}"),
    ("TOKENS/S IN", lambda s: f"{s.prompt_tokens_per_s:.0f}"),
    ("OUT", lambda s: f"{s.output_tokens_per_s:.0f}"),
    ("FAILED", lambda s: str(s.failed)),
    ("UNFINISHED", lambda s: str(s.unfinished)),
)


def describe(trace: Trace, pods: int, profile: str, cases: Sequence[Case]) -> str:
    """Say in a line or two what was replayed."""
    lines = [
        f"{trace.name}: {len(trace.requests)} requests, {trace.duration_s / 60:.1f} min; "
        f"{100 * trace.reuse_ratio:.1f} % of the prompt tokens were seen before; {pods} pods, {profile}"
    ]
    speeds = {case.load: case.speed for case in cases}
    lines += [f"load {load:g} is the trace {speed:.3g} times as fast" for load, speed in speeds.items() if load]
    return "\n".join(lines)


def table(summaries: Sequence[Summary]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows: one for each load and strategy, the mean over its seeds, in the order of the runs."""
    groups: dict[tuple[str, float | None], list[Summary]] = {}
    for each in summaries:
        groups.setdefault((each.strategy, each.load), []).append(each)
    means = [mean_of(group) for group in groups.values()]
    head = tuple(name for name, _ in _COLUMNS)
    return head, [tuple(show(mean) for _, show in _COLUMNS) for mean in means]


def render_json(summaries: Sequence[Summary]) -> str:
    """Return every run, with its seed."""
    return msgspec.json.format(msgspec.json.encode({"runs": summaries}), indent=2).decode() + "\n"


def render_csv(summaries: Sequence[Summary]) -> str:
    """Return every run, with its seed; columns as in JSON."""
    rows = [msgspec.to_builtins(each) for each in summaries]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"
