"""Leases, and the election of a leader by them.

https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.contract import Answer, Api
from tests.support.protobuf import PROTOBUF, enveloped, message

GROUP = {"group": "coordination.k8s.io"}
TIME = "2026-01-01T00:00:00.123456Z"


def lease(holder: str, **spec: Any) -> dict[str, Any]:
    held = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": TIME, "acquireTime": TIME, **spec}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": held}


async def take(api: Api, seen: Answer, holder: str) -> Answer:
    """Do what a candidate does: replace what it has seen, whatever happened since."""
    spec = {**seen.body["spec"], "holderIdentity": holder, "leaseTransitions": 1}
    return await api.put(api.at("leases", "l", **GROUP), {**seen.body, "spec": spec})


async def test_a_candidate_in_go_takes_the_lease(api: Api) -> None:
    """client-go sends the whole object as protobuf, with the managed fields that it was given."""
    made = (await api.create(api.at("leases", **GROUP), lease("a"))).body["metadata"]
    managed = message(
        (1, b"go"), (2, b"Update"), (3, b"coordination.k8s.io/v1"), (6, b"FieldsV1"), (7, message((1, b"{}")))
    )
    metadata = message(
        (1, b"l"), (3, made["namespace"].encode()), (5, made["uid"].encode()),
        (6, made["resourceVersion"].encode()), (8, b""), (17, managed),
    )  # fmt: skip
    renewed = message((1, 1_767_225_600), (2, 123_456_000))
    spec = message((1, b"b"), (2, 15), (3, renewed), (4, renewed), (5, 0))
    body = enveloped("Lease", message((1, metadata), (2, spec)), "coordination.k8s.io/v1")
    taken = await api.request("PUT", api.at("leases", "l", **GROUP), body, media=PROTOBUF)
    assert taken.code == 200, taken.body
    assert taken.body["spec"] == lease("b", leaseTransitions=0)["spec"]


async def test_microseconds_are_kept(api: Api) -> None:
    made = await api.create(api.at("leases", **GROUP), lease("a"))
    assert made.body["spec"]["renewTime"] == TIME
    assert (await api.get(api.at("leases", "l", **GROUP))).body["spec"] == lease("a")["spec"]


async def test_one_candidate_creates_the_lease(api: Api) -> None:
    answers = await asyncio.gather(*(api.create(api.at("leases", **GROUP), lease(f"c{n}")) for n in range(6)))
    assert sorted(a.code for a in answers) == [201, *[409] * 5]
    winner = next(a for a in answers if a.code == 201).body["spec"]["holderIdentity"]
    assert (await api.get(api.at("leases", "l", **GROUP))).body["spec"]["holderIdentity"] == winner


async def test_one_candidate_takes_an_expired_lease(api: Api) -> None:
    seen = await api.create(api.at("leases", **GROUP), lease("old"))
    answers = await asyncio.gather(*(take(api, seen, f"c{n}") for n in range(6)))
    assert sorted(a.code for a in answers) == [200, *[409] * 5]
    assert {a.reason for a in answers if a.code == 409} == {"Conflict"}


async def test_holder_that_was_replaced_cannot_renew(api: Api) -> None:
    seen = await api.create(api.at("leases", **GROUP), lease("old"))
    await take(api, seen, "new")
    late = await api.put(
        api.at("leases", "l", **GROUP), {**seen.body, "spec": {**seen.body["spec"], "renewTime": TIME}}
    )
    assert late.code == 409
    assert (await api.get(api.at("leases", "l", **GROUP))).body["spec"]["holderIdentity"] == "new"


@pytest.mark.parametrize("spec", [{"leaseDurationSeconds": 0}, {"leaseTransitions": -1}])
async def test_nonsense_is_invalid(api: Api, spec: dict[str, int]) -> None:
    made = await api.create(api.at("leases", **GROUP), lease("a", **spec))
    assert (made.code, made.reason) == (422, "Invalid")


async def test_time_that_is_none_is_a_bad_request(api: Api) -> None:
    assert (await api.create(api.at("leases", **GROUP), lease("a", renewTime="yesterday"))).code == 400


async def test_renewal_without_a_version_is_refused(api: Api) -> None:
    # A lease may not be overwritten unseen: `AllowUnconditionalUpdate` is off.
    await api.create(api.at("leases", **GROUP), lease("a"))
    blind = await api.put(api.at("leases", "l", **GROUP), lease("b"))
    assert (blind.code, blind.reason) == (422, "Invalid")
