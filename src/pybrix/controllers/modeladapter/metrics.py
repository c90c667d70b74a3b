"""What the ModelAdapter controller counts, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

ENGINE_REQUESTS = Counter(
    "pybrix_adapter_engine_requests",
    "Loads and unloads of adapters by result: success, or the reason of the failure.",
    ["verb", "result"],
)
ENGINE_REQUEST_SECONDS = Histogram(
    "pybrix_adapter_engine_request_seconds",
    "Time of loads and unloads of adapters, without the time in which they waited for their turn.",
    ["verb"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
