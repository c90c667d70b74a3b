"""What publishing counts, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

PUBLICATIONS = Counter(
    "pybrix_kvcache_publications",
    "Attempts to publish or confirm the members of a cache by result: success, or the reason of the failure.",
    ["server", "result"],
)
METADATA_SECONDS = Histogram(
    "pybrix_kvcache_metadata_seconds",
    "Time of the first answer of a metadata server in each attempt.",
    ["server"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
MOVED_SLOTS = Counter("pybrix_kvcache_moved_slots", "Slots that got another owner.")
