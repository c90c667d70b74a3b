"""Every routing strategy on one trace in the lab: time to first token, hit ratio, imbalance, at shares of saturation.

The trace is Mooncake's conversation trace where it lies beside the clone (../shared/data/traces), else the generated
workload `mixed`; --workload takes another one. Virtual time, so that nothing here depends on the machine but how long
it takes: one process, about 10 s of CPU for an hour of trace on 16 pods.

    python benchmarks/lab_strategies.py [--full] [--workload NAME] [--strategy NAME]... [--seeds 1]
                                        [--output FILE.csv] [--plot FILE.svg] [--max-minutes 60]

By default, the trace's first quarter of an hour on 4 pods, the QUICK strategies, one seed, one load: a minute or two.
--full is the study of docs/guides/routing.md: the whole trace, 16 pods, all strategies, five seeds, three loads. With
--output each run is written as soon as it ends, and runs that are in the file are not made again.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pybrix.lab import report
from pybrix.lab.comparison import ALL, Case, check_strategies, run_case
from pybrix.lab.generator import generate
from pybrix.lab.plot import write_plot
from pybrix.lab.profiles import DEFAULT_PROFILE, PROFILES
from pybrix.lab.readers import parse_trace
from pybrix.lab.saturation import find_saturation
from pybrix.lab.summary import Summary, mean_of
from pybrix.lab.trace import Trace, head

TRACE = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "traces" / "mooncake-conversation.jsonl"
PROFILE = PROFILES[DEFAULT_PROFILE]
LOADS = (0.7, 0.9, 1.1)
SEEDS = (1, 2, 3, 4, 5)
PODS = 16
QUICK = ("random", "least-request", "prefix-cache", "prefix-cache-preble", "prefix-affinity")
QUICK_PODS = 4
QUICK_S = 900.0
# Sessions in 15 minutes that keep 16 pods busy.
SESSIONS = {"chat": 20_000, "shared-prompts": 6000, "agents": 400, "mixed": 2500}
AIM = 0.8
"""p99 of time to first token with prefix-affinity, over that with prefix-cache."""


def open_trace(workload: str, share: float) -> Trace:
    """Return Mooncake's trace or, where it is not there or another one is asked for, a generated one of that share."""
    if not workload and TRACE.exists():
        return parse_trace(TRACE.read_text(), TRACE.name)
    name = workload or "mixed"
    return generate(name, sessions=int(SESSIONS[name] * share), duration_s=900.0, seed=1)


def read_runs(path: Path) -> list[Summary]:
    with path.open(newline="") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [msgspec.convert({"load": None, **row}, Summary, strict=False) for row in rows]


def plan(strategies: Sequence[str], seeds: Sequence[int], loads: Sequence[float], full: float) -> list[Case]:
    """Return the cases seed by seed: what --max-minutes cuts off is missing from all strategies alike."""
    return [Case(strategy, seed, load * full, load) for seed in seeds for load in loads for strategy in strategies]


def run_all(trace: Trace, cases: Sequence[Case], pods: int, output: Path | None, end_s: float) -> Iterator[Summary]:
    """Run the cases that can be begun in time, and write each one down."""
    for case in cases:
        if time.monotonic() > end_s:
            return
        summary = run_case(trace, case, pods=pods, profile=PROFILE)
        if output is not None:
            lines = report.render_csv([summary]).splitlines(keepends=True)
            with output.open("a") as file:
                file.writelines(lines if not file.tell() else lines[1:])
        yield summary


def show(summaries: Sequence[Summary]) -> None:
    print("| load | strategy | seeds | TTFT p50 | p99 | p99 by seed | e2e p99 | hit ratio | imbalance |")
    print("|---|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[float | None, str], list[Summary]] = {}
    for each in summaries:
        groups.setdefault((each.load, each.strategy), []).append(each)
    means = {key: mean_of(group) for key, group in groups.items()}
    for (load, name), mean in sorted(means.items(), key=lambda item: (item[0][0] or 0.0, item[1].ttft_p99_s)):
        p99s = [each.ttft_p99_s for each in groups[load, name]]
        print(
            f"| {load} | `{name}` | {len(p99s)} | {mean.ttft_p50_s:.2f} s | {mean.ttft_p99_s:.2f} s | {min(p99s):.1f} "
            f"to {max(p99s):.1f} | {mean.e2e_p99_s:.1f} s | {100 * mean.hit_ratio:.1f} % | {mean.imbalance:.2f} |"
        )
    for load in dict.fromkeys(load for load, _ in means):
        ours, theirs = means.get((load, "prefix-affinity")), means.get((load, "prefix-cache"))
        if ours is not None and theirs is not None:
            ratio = ours.ttft_p99_s / theirs.ttft_p99_s
            print(f"load {load}: prefix-affinity / prefix-cache in p99 TTFT {ratio:.2f} (aim: {AIM} or less)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--workload", default="", choices=("", *SESSIONS))
    parser.add_argument("--strategy", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=0, help="how many")
    parser.add_argument("--output", type=Path, help="every run, as CSV; goes on where it was left")
    parser.add_argument("--plot", type=Path, help=".svg or .png")
    parser.add_argument("--max-minutes", type=float, default=60.0)
    options = parser.parse_args()
    began_s = time.monotonic()
    pods = PODS if options.full else QUICK_PODS
    trace = open_trace(options.workload, pods / PODS)
    if not options.full:
        trace = head(trace, QUICK_S)
    runs = read_runs(options.output) if options.output is not None and options.output.exists() else []
    found = next((run.speed / run.load for run in runs if run.load), None)
    # Rounded, as the search is good to 1 %, so that runs which are made later come just as fast.
    full = float(f"{found or find_saturation(trace, pods=pods, profile=PROFILE):.3g}")
    cases = plan(
        check_strategies(options.strategy or ([ALL] if options.full else QUICK)),
        SEEDS[: options.seeds or (len(SEEDS) if options.full else 1)],
        LOADS if options.full else LOADS[1:2],
        full,
    )
    print(report.describe(trace, pods, DEFAULT_PROFILE, cases), flush=True)
    made = {(run.strategy, run.seed, run.load) for run in runs}
    left = [case for case in cases if (case.strategy, case.seed, case.load) not in made]
    runs += run_all(trace, left, pods, options.output, began_s + 60.0 * options.max_minutes)
    show(runs)
    wanted = {(case.strategy, case.seed, case.load) for case in cases}
    there = len(wanted & {(run.strategy, run.seed, run.load) for run in runs})
    print(f"{there} of {len(cases)} runs, {time.monotonic() - began_s:.0f} s")
    if options.plot is not None:
        write_plot(runs, options.plot, f"{trace.name}, {pods} pods, {DEFAULT_PROFILE}")


if __name__ == "__main__":
    main()
