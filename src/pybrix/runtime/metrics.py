"""Counters of the runtime, in the process's default Prometheus registry."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter(
    "pybrix_reconcile",
    "Passes of a controller by cause (the kind of the object that changed, start, request, requeue, retry) and by "
    "result: success, requeue, conflict, terminal, error.",
    ["controller", "cause", "result"],
)
RECONCILE_SECONDS = Histogram("pybrix_reconcile_seconds", "Duration of a controller's passes.", ["controller"])
QUEUE_LENGTH = Gauge("pybrix_workqueue_length", "Keys that wait for a worker.", ["controller"])
LEADING = Gauge("pybrix_leader", "Whether this process leads: 1 or 0.", ["lease"])
