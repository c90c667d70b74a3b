"""Events: what `kubectl describe` shows, without flooding the API."""

from __future__ import annotations

from datetime import timedelta

from pybrix.api.core import Event, Pod
from pybrix.kube.errors import Unreachable
from pybrix.runtime.events import AGGREGATION_WINDOW_S, DISTINCT_MESSAGES, EventRecorder
from tests.support.bare_pods import make_pod
from tests.support.clocks import EPOCH, FakeClock
from tests.support.memoryapi import MemoryApi


def start() -> tuple[MemoryApi, FakeClock, EventRecorder, Pod]:
    api, clock = MemoryApi(), FakeClock()
    return api, clock, EventRecorder(api, clock, component="test"), api.put(make_pod("web", "shop"))


async def test_an_event_says_who_what_and_when() -> None:
    api, _, recorder, pod = start()
    await recorder.record(pod, "Started", "it runs")
    (event,) = api.all(Event)
    assert event.metadata.namespace == "shop"
    assert event.involved_object.uid == pod.uid
    assert (event.involved_object.kind, event.involved_object.name) == ("Pod", "web")
    assert (event.type, event.reason, event.message, event.count) == ("Normal", "Started", "it runs", 1)
    assert event.first_timestamp == event.last_timestamp == "2026-01-01T00:00:00Z"
    assert event.source.component == "test"


async def test_repetition_counts_up() -> None:
    api, clock, recorder, pod = start()
    for _ in range(5):
        await recorder.record(pod, "BackOff", "again", "Warning")
        clock.advance(10)
    (event,) = api.all(Event)
    assert event.count == 5
    assert event.first_timestamp == "2026-01-01T00:00:00Z"
    assert event.last_timestamp == (EPOCH + timedelta(seconds=40)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_same_name_in_another_life_is_another_object() -> None:
    api, _, recorder, pod = start()
    await recorder.record(pod, "Started", "it runs")
    api.remove(pod)
    await recorder.record(api.put(make_pod("web", "shop")), "Started", "it runs")
    assert [e.count for e in api.all(Event)] == [1, 1]


async def test_long_after_it_is_a_new_event() -> None:
    api, clock, recorder, pod = start()
    await recorder.record(pod, "Started", "it runs")
    clock.advance(AGGREGATION_WINDOW_S + 1)
    await recorder.record(pod, "Started", "it runs")
    assert [e.count for e in api.all(Event)] == [1, 1]


async def test_many_different_messages_are_combined() -> None:
    api, _, recorder, pod = start()
    for number in range(50):
        await recorder.record(pod, "Failed", f"attempt {number}")
    events = api.all(Event)
    assert len(events) == DISTINCT_MESSAGES + 1
    assert events[-1].message == "(combined from similar events): attempt 49"
    assert sum(e.count for e in events) == 50


async def test_an_expired_event_is_said_anew() -> None:
    api, _, recorder, pod = start()
    await recorder.record(pod, "Started", "it runs")
    api.remove(api.all(Event)[0])
    await recorder.record(pod, "Started", "it runs")
    assert [e.count for e in api.all(Event)] == [1]


async def test_an_event_that_cannot_be_written_harms_nobody() -> None:
    api, _, recorder, pod = start()
    api.fail_next("create", Unreachable("away"))
    await recorder.record(pod, "Started", "it runs")
    assert api.all(Event) == []
