"""Say how a pool is. Pure."""

from __future__ import annotations

import math

import msgspec

from pybrix.api.kvcache.v1alpha1.kvcachepool import (
    KVCachePool,
    KVCachePoolStatus,
    PoolMember,
    PoolMetadataStatus,
)
from pybrix.controllers.cachecluster.blueprint import ROLE_CACHE
from pybrix.controllers.cachecluster.conditions import Pass, conditions_of, count, phase_of
from pybrix.controllers.cachecluster.members import host_port, members_of
from pybrix.controllers.kvcachepool.render import POOL, ROLE
from pybrix.controllers.membership.records import slot_counts

_STEPS = (1, 2, 5)


def next_status(pool: KVCachePool, done: Pass, now: str) -> KVCachePoolStatus:
    """Return the status after a pass, unchanged where nothing changed."""
    counts = count(done)
    before = pool.status
    conditions = conditions_of(pool, before.conditions, done, now)
    record = done.outcome.record if done.outcome is not None else done.seen.record
    slots = slot_counts(record) if record is not None else {}
    status = KVCachePoolStatus(
        observed_generation=pool.metadata.generation,
        phase=phase_of(conditions, counts.ready),
        replicas=counts.present,
        ready_replicas=counts.ready,
        selector=f"{POOL}={pool.metadata.name},{ROLE}={ROLE_CACHE}",
        endpoints=[host_port(m.addr, m.port) for m in members_of(done.seen.pods, done.blueprint.members)],
        metadata=_metadata(pool, done, now),
        membership_version=record.version if record is not None else before.membership_version,
        members=[
            PoolMember(name=n.name, address=host_port(n.addr, n.port), slots=slots[n.name])
            for n in (record.nodes if record is not None else ())
        ],
        conditions=conditions,
    )
    return status if _without_time(status) != _without_time(before) else before


def _metadata(pool: KVCachePool, done: Pass, now: str) -> PoolMetadataStatus:
    before = pool.status.metadata or PoolMetadataStatus()
    blueprint, outcome = done.blueprint, done.outcome
    error = outcome.error if outcome is not None else None
    is_reachable = outcome is not None and (error is None or error.is_reachable)
    message = str(error) if error is not None else blueprint.problem.message if blueprint.problem is not None else ""
    latency = before.latency_milliseconds
    if outcome is not None and outcome.latency_s is not None:
        latency = settle_latency(latency, outcome.latency_s * 1000)
    return PoolMetadataStatus(
        kind=blueprint.kind,
        reachable=is_reachable,
        address=blueprint.address,
        message=message,
        latency_milliseconds=latency,
        last_contact_time=now if is_reachable else before.last_contact_time,
    )


def settle_latency(before: int, measured_ms: float) -> int:
    """Return the latency in steps of 1, 2 and 5; the one before while what is measured is within a factor of 3."""
    if before and before / 3 <= max(measured_ms, 1.0) <= before * 3:
        return before
    base: int = 10 ** math.floor(math.log10(max(measured_ms, 1.0)))
    return next((step * base for step in _STEPS if step * base >= measured_ms), 10 * base)


def _without_time(status: KVCachePoolStatus) -> KVCachePoolStatus:
    # When it last answered changes with every pass; it is written along with something else.
    if status.metadata is None:
        return status
    metadata = msgspec.structs.replace(status.metadata, last_contact_time=None)
    return msgspec.structs.replace(status, metadata=metadata)
