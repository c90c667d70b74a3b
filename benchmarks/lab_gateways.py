"""Cached prompts with several gateways: `prefix-affinity` with one, with three that share, with three that do not.

In the lab's virtual time, with the gateway's own code and messages between gateways that take 2 to 60 ms. The trace is
Mooncake's conversation trace where it lies beside the clone (../shared/data/traces), else the generated workload
`mixed`; --workload takes another one.

    python benchmarks/lab_gateways.py [--full] [--workload NAME] [--load 0.7] [--seeds 1]

By default, the trace's first quarter of an hour on 4 pods; --full is the whole trace on 16 pods.
"""

from __future__ import annotations

import argparse
import time

from lab_strategies import PODS, PROFILE, QUICK_PODS, QUICK_S, open_trace
from pybrix.lab.comparison import Case, run_case
from pybrix.lab.saturation import find_saturation
from pybrix.lab.summary import mean_of
from pybrix.lab.trace import head

STRATEGY = "prefix-affinity"
AIM_POINTS = 2.0
"""Points of hit ratio that three gateways may be below one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--workload", default="")
    parser.add_argument("--load", type=float, default=0.7, help="share of what saturates least-request")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    pods = PODS if options.full else QUICK_PODS
    trace = open_trace(options.workload, 1.0 if options.full else QUICK_PODS / PODS)
    if not options.full:
        trace = head(trace, QUICK_S)
    full = find_saturation(trace, pods=pods, profile=PROFILE)
    print(f"{trace.name}: {len(trace.requests)} requests, {pods} pods, load {options.load:g}, {options.seeds} seeds")
    print("| gateways | hit ratio | TTFT p50 | p99 | imbalance | seconds to replay |")
    print("|---|---|---|---|---|---|")
    hits = []
    for name, gateways, is_shared in (("1", 1, True), ("3", 3, True), ("3 that tell each other nothing", 3, False)):
        began_s = time.monotonic()
        runs = [
            run_case(
                trace,
                Case(STRATEGY, seed, options.load * full, options.load, gateways, is_shared),
                pods=pods,
                profile=PROFILE,
            )
            for seed in range(1, options.seeds + 1)
        ]
        mean = mean_of(runs)
        hits.append(100 * mean.hit_ratio)
        print(
            f"| {name} | {hits[-1]:.1f} % | {mean.ttft_p50_s:.2f} s | {mean.ttft_p99_s:.2f} s | {mean.imbalance:.2f} | "
            f"{time.monotonic() - began_s:.0f} |",
            flush=True,
        )
    below = hits[0] - hits[1]
    print(f"three gateways are {below:.2f} points below one (aim: within {AIM_POINTS:g})")


if __name__ == "__main__":
    main()
