"""Claims are bound at once, and go when no pod uses them."""

from __future__ import annotations

from typing import Any

from pybrix.api.core import PersistentVolumeClaim
from pybrix.api.names import CLAIM_PROTECTION
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.volumeclaim.plan import plan
from pybrix.runtime.actions import Emit, Patch
from tests.support.workloads import START, World, make_pod


def make_claim(storage: str = "1Gi", *, is_deleted: bool = False, **spec: Any) -> PersistentVolumeClaim:
    return PersistentVolumeClaim.from_dict(
        {
            "metadata": {
                "name": "data",
                "namespace": "default",
                "uid": "uid-data",
                "resourceVersion": "1",
                "finalizers": [CLAIM_PROTECTION, "example.com/other"],
                "deletionTimestamp": format_rfc3339(START) if is_deleted else None,
            },
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}, **spec},
            "status": {"phase": "Pending"},
        }
    )


def settled(claim: PersistentVolumeClaim) -> PersistentVolumeClaim:
    """Apply plans until nothing is left to do."""
    world = World()
    world.put(claim)
    for _ in range(3):
        if not world.apply(plan(world.get(PersistentVolumeClaim, "data"), [])):
            return world.get(PersistentVolumeClaim, "data")
    raise AssertionError("the claim does not settle")


def test_a_claim_is_bound_with_the_room_it_asks_for() -> None:
    claim = settled(make_claim("3Gi"))
    assert (claim.status.phase, claim.status.capacity) == ("Bound", {"storage": "3Gi"})
    assert claim.status.access_modes == ["ReadWriteOnce"]
    assert claim.spec.volume_name == "pvc-uid-data"


def test_a_volume_that_was_named_stays_and_more_room_is_given() -> None:
    claim = settled(make_claim(volumeName="mine"))
    assert claim.spec.volume_name == "mine"
    larger = PersistentVolumeClaim.from_dict(claim.to_dict())
    larger.spec.resources = make_claim("5Gi").spec.resources
    assert settled(larger).status.capacity == {"storage": "5Gi"}
    assert not any(isinstance(a, Emit) for a in plan(larger, []).actions), "it was bound before"


def test_a_deleted_claim_waits_for_its_pods_and_keeps_what_others_hold() -> None:
    claim = make_claim(is_deleted=True)
    assert plan(claim, [make_pod()]).actions == ()
    for users in ([], [make_pod(phase="Succeeded")]):
        (release,) = plan(claim, users).actions
        assert isinstance(release, Patch)
        assert release.patch["metadata"]["finalizers"] == ["example.com/other"]
    released = PersistentVolumeClaim.from_dict(claim.to_dict())
    released.metadata.finalizers = ["example.com/other"]
    assert plan(released, []).actions == ()
