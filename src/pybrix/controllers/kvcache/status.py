"""Say how a KVCache is. Pure."""

from __future__ import annotations

from pybrix.api.orchestration.v1alpha1.kvcache import KVCache, KVCacheStatus
from pybrix.controllers.cachecluster.conditions import Pass, conditions_of, count


def next_status(cache: KVCache, done: Pass, now: str) -> KVCacheStatus:
    """Return the status after a pass, unchanged where nothing changed."""
    return KVCacheStatus(
        observed_generation=cache.metadata.generation,
        current=count(done).ready,
        conditions=conditions_of(cache, cache.status.conditions, done, now),
    )
