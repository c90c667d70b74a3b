"""Every phase, condition and reason of AIBrix's ModelAdapter, and when each is told. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pybrix.api.identity import Uid
from pybrix.api.meta import find_condition
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod, ModelAdapterStatus
from pybrix.controllers.modeladapter import status as words
from pybrix.controllers.modeladapter.events import transitions
from pybrix.controllers.modeladapter.plan import plan
from pybrix.controllers.modeladapter.state import (
    EngineSeen,
    Observed,
    Phase,
    read_pod,
    revision_of,
    survey,
)
from pybrix.controllers.modeladapter.status import Trouble, next_status
from pybrix.engine.adapters import ServedModel
from tests.support.adapters import make_adapter, make_pod

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
BASE = ServedModel(id="llama")
OURS = ServedModel(id="sql", root="org/sql", parent="llama")
LOST = ModelAdapterStatus(observed_generation=1, phase="Running", desired_replicas=1, instances=["gone"])


def seen(
    *pods: Any,
    records: dict[str, dict[str, Any]] | None = None,
    listed: tuple[str, ...] = (),
    silent: tuple[str, ...] = (),
    before: ModelAdapterStatus | None = None,
    **more: Any,
) -> Observed:
    """Return what a pass sees: pods, what is recorded of each by name, and whose engines list the adapter."""
    spec = more.pop("spec", {})
    adapter = make_adapter(**spec)
    if before is not None:
        adapter = msgspec.structs.replace(adapter, status=before)
    members = {pod.uid: read_pod(pod) for pod in pods}
    by_name = {pod.metadata.name: pod.uid for pod in pods}
    wanted = revision_of(adapter, {}) or ""
    engines = {
        pod.uid: EngineSeen({"llama": BASE} | ({"sql": OURS} if pod.metadata.name in listed else {}))
        if pod.metadata.name not in silent
        else EngineSeen(failures=5, error="EngineUnreachable")
        for pod in pods
    }
    known = {
        by_name[name]: AdapterPod(**({"uid": by_name[name], "name": name, "revision": wanted} | fields))
        for name, fields in (records or {}).items()
    }
    return Observed(
        adapter,
        members=members,
        survey=survey(members.values()),
        engines=engines,
        listed_in=frozenset(by_name[name] for name in listed),
        records=known,
        **more,
    )


def told(observed: Observed, trouble: Trouble | None = None) -> ModelAdapterStatus:
    return next_status(observed, plan(observed, NOW), trouble, NOW)


def serving(before: str = "Running") -> ModelAdapterStatus:
    """Return the status of an adapter that serves from one pod."""
    return msgspec.structs.replace(
        told(seen(make_pod("a"), records={"a": {"state": "Loaded"}}, listed=("a",))), phase=before
    )


FAILED = {
    "state": "Failed",
    "reason": "AdapterRefused",
    "message": "bad",
    "attempts": 1,
    "retry_at": "2030-01-01T00:00:00Z",
}
DRAINING = {"state": "Draining", "retry_at": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("observed", "trouble", "phase", "conditions"),
    [
        pytest.param(
            seen(),
            None,
            "Pending",
            {
                "Initialized": ("Unknown", "ModelAdapterPending"),
                "Scheduled": ("False", "ModelAdapterPending"),
                "Ready": ("False", "ModelAdapterUnavailable"),
            },
            id="no pod matches",
        ),
        pytest.param(
            seen(make_pod("a", ready=False)),
            None,
            "Pending",
            {"Scheduled": ("False", "PodNotReady"), "Ready": ("False", "ModelAdapterUnavailable")},
            id="pods match and none is ready",
        ),
        pytest.param(
            seen(make_pod("a", args=("--max-loras", "1")), occupancy={Uid("uid-of-a"): 1}),
            None,
            "Pending",
            {"Scheduled": ("False", "ModelAdapterUnavailable")},
            id="all pods are full",
        ),
        pytest.param(
            seen(make_pod("a")),
            None,
            "Scheduled",
            {
                "Initialized": ("True", "Scheduled"),
                "Scheduled": ("True", "Scheduled"),
                "Bound": ("False", "ModelAdapterPending"),
                "Ready": ("False", "ModelAdapterUnavailable"),
            },
            id="a pod is chosen and loads",
        ),
        pytest.param(
            seen(make_pod("a"), records={"a": FAILED}),
            None,
            "Failed",
            {
                "Scheduled": ("True", "Scheduled"),
                "Bound": ("False", "ModelAdapterLoadingError"),
                "Ready": ("False", "ModelAdapterLoadingError"),
            },
            id="loading fails in all pods",
        ),
        pytest.param(
            seen(
                make_pod("a"),
                records={"a": FAILED | {"state": "Reloading", "retry_at": None}},
                busy=frozenset(["uid-of-a"]),
            ),
            None,
            "Failed",
            {
                "Bound": ("False", "ModelAdapterLoadingError"),
                "Ready": ("False", "ModelAdapterLoadingError"),
            },
            id="loading failed and is tried again",
        ),
        pytest.param(
            seen(make_pod("a"), make_pod("b"), records={"a": FAILED, "b": {"state": "Loaded"}}, listed=("b",)),
            None,
            "Running",
            {"Bound": ("True", "StableInstanceFound"), "Ready": ("True", "ModelAdapterAvailable")},
            id="loading fails in one pod of two",
        ),
        pytest.param(
            seen(make_pod("a"), records={"a": {"state": "Loaded"}}, listed=("a",)),
            Trouble("ServiceCreateError", "no"),
            "Bound",
            {
                "Bound": ("True", "StableInstanceFound"),
                "ResourceCreated": ("False", "ServiceCreateError"),
                "Ready": ("False", "ServiceCreateError"),
            },
            id="the Service cannot be made",
        ),
        pytest.param(
            seen(make_pod("a"), records={"a": {"state": "Loaded"}}, listed=("a",)),
            Trouble("EndpointSliceCreateError", "no"),
            "Bound",
            {
                "ResourceCreated": ("False", "EndpointSliceCreateError"),
                "Ready": ("False", "EndpointSliceCreateError"),
            },
            id="the slices cannot be written",
        ),
        pytest.param(
            seen(make_pod("a", ready=False), records={"a": {"state": "Loaded"}}, listed=("a",), spec={"replicas": 1}),
            None,
            "ResourceCreated",
            {"ResourceCreated": ("True", "ModelAdapterAvailable"), "Ready": ("False", "PodNotReady")},
            id="loaded in a pod that is not ready",
        ),
        pytest.param(
            seen(make_pod("a"), records={"a": {"state": "Loaded"}}, listed=("a",)),
            None,
            "Running",
            {
                "Initialized": ("True", "Scheduled"),
                "Scheduled": ("True", "Scheduled"),
                "Bound": ("True", "StableInstanceFound"),
                "ResourceCreated": ("True", "ModelAdapterAvailable"),
                "Ready": ("True", "ModelAdapterAvailable"),
            },
            id="it serves",
        ),
        pytest.param(
            seen(make_pod("a"), records={"a": {"state": "Loaded"}}, silent=("a",)),
            None,
            "Unknown",
            {"Ready": ("Unknown", "ConditionNotFound")},
            id="the engines do not answer",
        ),
        pytest.param(
            seen(before=serving()),
            None,
            "Pending",
            {"Scheduled": ("False", "Rescheduling"), "Ready": ("False", "AdapterMigrating")},
            id="all of its pods are gone",
        ),
        pytest.param(
            seen(make_pod("b"), before=told(seen(before=serving()))),
            None,
            "Scheduled",
            {"Scheduled": ("True", "Rescheduled"), "Ready": ("False", "AdapterMigrating")},
            id="another pod is found for it",
        ),
        pytest.param(
            seen(
                make_pod("a"),
                make_pod("b"),
                records={"a": {"state": "Loaded"}, "b": DRAINING},
                listed=("a", "b"),
                spec={"replicas": 1},
                before=msgspec.structs.replace(serving(), desired_replicas=2),
            ),
            None,
            "Scaled",
            {"Scheduled": ("True", "Scaled"), "Ready": ("True", "ModelAdapterAvailable")},
            id="fewer replicas are wanted",
        ),
        pytest.param(
            seen(make_pod("a"), spec={"artifactURL": "ftp://x"}),
            None,
            "Failed",
            {"Initialized": ("False", "ValidationFailed"), "Ready": ("False", "ValidationFailed")},
            id="the spec is wrong",
        ),
        pytest.param(
            seen(make_pod("a"), spec={"additionalConfig": {"api-key": "sk"}}),
            None,
            "Scheduled",
            {"PlaintextAPIKey": ("True", "KeyInSpec")},
            id="a key in the spec",
        ),
    ],
)
def test_phases_and_reasons(
    observed: Observed, trouble: Trouble | None, phase: str, conditions: dict[str, tuple[str, str]]
) -> None:
    status = told(observed, trouble)
    found = {c.type: (c.status, c.reason) for c in status.conditions}
    assert (status.phase, {kind: found.get(kind) for kind in conditions}) == (phase, conditions)
    assert status.observed_generation == 1
    assert all(c.observed_generation == 1 and c.message for c in status.conditions)


def test_every_word_of_aibrix_is_used() -> None:
    used = {value for name, value in vars(words).items() if name.isupper() and isinstance(value, str)}
    reasons = {
        "ModelAdapterPending",
        "ServiceCreateError",
        "EndpointSliceCreateError",
        "ModelAdapterLoadingError",
        "ValidationFailed",
        "StableInstanceFound",
        "ConditionNotFound",
        "PodNotReady",
        "ModelAdapterAvailable",
        "ModelAdapterUnavailable",
        "Scheduled",
        "Scaled",
        "AdapterMigrating",
        "Rescheduling",
        "Rescheduled",
    }
    assert reasons <= used
    phases = {"Pending", "Scheduled", "Bound", "ResourceCreated", "Running", "Failed", "Unknown", "Scaled"}
    assert {str(phase) for phase in Phase} == phases


def test_a_second_look_changes_nothing_and_times_stand_still() -> None:
    first = seen(make_pod("a"), records={"a": {"state": "Loaded"}}, listed=("a",))
    status = told(first)
    again = replace(first, adapter=msgspec.structs.replace(first.adapter, status=status))
    later = next_status(again, plan(again, NOW + timedelta(hours=1)), None, NOW + timedelta(hours=1))
    assert later == status
    assert transitions(first.adapter, status, later) == []


def test_transitions_have_events_and_steps_back_are_warnings() -> None:
    adapter = make_adapter()
    empty, runs = ModelAdapterStatus(), serving()
    assert [(e.type, e.reason) for e in transitions(adapter, empty, runs)] == [("Normal", "ModelAdapterAvailable")]
    lost = told(seen(before=runs))
    assert ("Warning", "AdapterMigrating") in [(e.type, e.reason) for e in transitions(adapter, runs, lost)]
    failed = told(seen(make_pod("a"), records={"a": FAILED}))
    assert [(e.type, e.reason) for e in transitions(adapter, empty, failed)] == [
        ("Warning", "ModelAdapterLoadingError"),
        ("Warning", "ModelAdapterLoadingError"),
    ]


def test_messages_name_pods_and_reasons_and_stay_short() -> None:
    pods = [make_pod(f"p{n:03d}", uid=f"u{n}") for n in range(50)]
    status = told(seen(*pods, records={p.metadata.name: FAILED for p in pods}))
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert ready.message == (
        "Loading failed on all pods: p000: AdapterRefused: bad; p001: AdapterRefused: bad; "
        "p002: AdapterRefused: bad; and 47 more"
    )
