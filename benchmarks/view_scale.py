"""What a change of one model costs the brain in a large cluster: the view, Envoy's files, the disk.

    python benchmarks/view_scale.py

Floor: writing one endpoints file of 20 endpoints.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pybrix.api.config import GatewayConfiguration
from pybrix.api.identity import Uid
from pybrix.envoy.files import XdsWriter, write_atomically
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.xds import XdsRenderer
from pybrix.gateway.view.facts import PodFacts, SliceEndpoint, SliceFacts
from pybrix.gateway.view.snapshot import ClusterView, apply, build_view
from pybrix.gateway.xds import XdsPublisher

PODS_PER_ADAPTER = 20


def pod(number: int, models: int, *, ready: bool = True) -> PodFacts:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    absent = "" if ready else "not ready"
    return PodFacts(Uid(f"pod-{number}"), "default", f"p{number}", f"m{number % models}", 8000, address, absent)


def slice_of(adapter: int, pods: int, *, first: int = 0) -> SliceFacts:
    members = [(adapter * 7 + n) % pods for n in range(first, first + PODS_PER_ADAPTER)]
    endpoints = tuple(SliceEndpoint("", Uid(f"pod-{n}")) for n in members)
    return SliceFacts(Uid(f"slice-{adapter}"), "default", f"lora-{adapter}", endpoints)


def median_ms(rounds: int, step: Callable[[int], object]) -> float:
    spent: list[float] = []
    for turn in range(rounds):
        began_s = time.perf_counter()
        step(turn)
        spent.append(1000 * (time.perf_counter() - began_s))
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pods", type=int, default=5000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    pods, models = options.pods, options.models
    began_s = time.perf_counter()
    start = build_view([pod(n, models) for n in range(pods)], [slice_of(n, pods) for n in range(options.adapters)])
    built_ms = 1000 * (time.perf_counter() - began_s)
    with tempfile.TemporaryDirectory(prefix="pybrix-view-") as place:
        paths = EnvoyPaths(Path(place), Path(place))
        writer, renderer = XdsWriter(paths.xds_dir), XdsRenderer(GatewayConfiguration(), paths)
        publisher = XdsPublisher(lambda clusters: writer.write(renderer.render(clusters)))
        began_s = time.perf_counter()
        publisher.publish(start)
        written_ms = 1000 * (time.perf_counter() - began_s)
        view = start

        def show(following: ClusterView) -> None:
            nonlocal view
            view = following
            publisher.publish(view)

        gc.collect()
        gc.freeze()
        content = next(paths.xds_dir.glob("endpoints-default%2Flora-*.json")).read_bytes()
        floor_ms = median_ms(options.rounds, lambda _: write_atomically(Path(place) / "floor", content))
        rows = {
            "the view alone: a slice changes": lambda n: apply(
                view, {}, {Uid("slice-3"): slice_of(3, pods, first=n % 2)}
            ),
            "a slice changes": lambda n: show(apply(view, {}, {Uid("slice-3"): slice_of(3, pods, first=n % 2)})),
            "a pod turns (not) ready": lambda n: show(apply(view, {Uid("pod-9"): pod(9, models, ready=bool(n % 2))})),
            "an adapter comes": lambda n: show(apply(view, {}, {Uid(f"slice-{10**6 + n}"): slice_of(10**6 + n, pods)})),
        }
        touched = len(view.joins.adapters["pod-9"]) + 1
        print(f"{pods} pods of {models} models, {options.adapters} adapters on {PODS_PER_ADAPTER} pods each")
        print(f"{'the first view':34} {built_ms:8.1f} ms   its files {written_ms:8.1f} ms")
        for title, step in rows.items():
            spent_ms = median_ms(options.rounds, step)
            print(f"{title:34} {spent_ms:8.2f} ms   {spent_ms / floor_ms:6.1f} x the floor ({floor_ms:.2f} ms)")
        print(f"(the pod serves {touched} models)")


if __name__ == "__main__":
    main()
