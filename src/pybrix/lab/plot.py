"""Plots that compare strategies, with matplotlib (extra `plot`). Only the command line imports this module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pybrix.lab.summary import Summary, mean_of

_P50, _P99, _PLAIN = "#9ecae1", "#08519c", "#74a063"


def write_plot(summaries: Sequence[Summary], path: Path, title: str) -> None:
    """Write a comparison as SVG or PNG, as the path ends: one row of panels for each load.

    Raises:
        ValueError: the path ends otherwise.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"{path} ends neither in .svg nor in .png")
    loads: dict[float | None, dict[str, list[Summary]]] = {}
    for each in summaries:
        loads.setdefault(each.load, {}).setdefault(each.strategy, []).append(each)
    strategies = max(map(len, loads.values()))
    # Text stays text, and the same numbers give the same bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pybrix", "font.size": 9.0}):
        figure = Figure(figsize=(11.0, len(loads) * (1.1 + 0.24 * strategies)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        grid = figure.subplots(len(loads), 3, squeeze=False, width_ratios=(2, 1, 1))
        for row, (load, groups) in zip(grid, loads.items(), strict=True):
            _draw_row(row, load, {name: mean_of(group) for name, group in groups.items()})
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, format=path.suffix[1:], metadata=metadata, dpi=120)


def _draw_row(row: Sequence[Axes], load: float | None, means: Mapping[str, Summary]) -> None:
    ordered = sorted(means.values(), key=lambda each: -each.ttft_p99_s)
    places = range(len(ordered))
    times, hits, imbalances = row
    times.barh(places, [each.ttft_p99_s for each in ordered], color=_P99, label="p99", height=0.8)
    times.barh(places, [each.ttft_p50_s for each in ordered], color=_P50, label="p50", height=0.8)
    times.set_yticks(places, [each.strategy for each in ordered])
    times.set_xlabel("time to first token, seconds")
    least = min((each.ttft_p50_s for each in ordered if each.ttft_p50_s > 0), default=0.1)
    times.set_xscale("log")
    times.set_xlim(left=10 ** math.floor(math.log10(least)))
    if load is not None:
        times.set_title(f"load {load:g}", loc="left")
    times.legend(loc="upper right")
    hits.barh(places, [100 * each.hit_ratio for each in ordered], color=_PLAIN, height=0.8)
    hits.set_yticks(places, [])
    hits.set_xlabel("prompt tokens from cache, %")
    imbalances.barh(places, [each.imbalance for each in ordered], color=_PLAIN, height=0.8)
    imbalances.set_yticks(places, [])
    imbalances.set_xlabel("imbalance (1 = even)")
    imbalances.set_xlim(left=1.0)
