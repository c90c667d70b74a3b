"""The status that a pod gets, as tables over what is seen of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pybrix.api.core import Pod, PodStatus
from pybrix.api.meta import find_condition
from pybrix.cluster.nodeagent.seen import Blocked, ContainerSeen, Stop
from pybrix.cluster.nodeagent.status import qos_class, render_status
from tests.support.pods import NOW, ended, live, make_container, make_pod, observed

STOP = Stop(requested_at=NOW, grace_s=30.0, why="a test")


def conditions(status: PodStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


def only(status: PodStatus) -> Any:
    (container,) = status.container_statuses
    return container


@pytest.mark.parametrize(
    ("policy", "containers", "want"),
    [
        pytest.param("Always", {}, "Pending", id="nothing runs yet"),
        pytest.param("Always", {"a": live()}, "Pending", id="one was never started"),
        pytest.param("Always", {"a": live(), "b": live(ready=False)}, "Running", id="all run"),
        pytest.param("Always", {"a": live(), "b": ended(1, restart=3, backoff_s=40)}, "Running", id="one backs off"),
        pytest.param("Never", {"a": ended(0), "b": live()}, "Running", id="one is still at work"),
        pytest.param("Never", {"a": ended(0), "b": ended(0)}, "Succeeded", id="all succeeded"),
        pytest.param("Never", {"a": ended(0), "b": ended(2)}, "Failed", id="one failed for good"),
        pytest.param("OnFailure", {"a": ended(0), "b": ended(2)}, "Running", id="one is started again"),
        pytest.param("Never", {"a": ended(143, interrupted=True), "b": ended(0)}, "Running", id="one was interrupted"),
    ],
)
def test_phase(policy: str, containers: dict[str, ContainerSeen], want: str) -> None:
    pod = make_pod("p", make_container("a"), make_container("b"), restartPolicy=policy)
    assert render_status(observed(pod, containers=containers), NOW).phase == want


def test_a_ready_pod() -> None:
    status = render_status(observed(make_pod(), containers={"main": live(ago_s=5)}), NOW)
    assert conditions(status) == {
        "PodReadyToStartContainers": ("True", ""),
        "Initialized": ("True", ""),
        "Ready": ("True", ""),
        "ContainersReady": ("True", ""),
        "PodScheduled": ("True", ""),
    }
    assert (status.pod_ip, status.host_ip, [p.ip for p in status.pod_ips]) == (
        "127.65.0.1",
        "127.0.0.1",
        ["127.65.0.1"],
    )
    assert (only(status).ready, only(status).started, only(status).restart_count) == (True, True, 0)
    assert only(status).state.running.started_at == "2026-01-02T11:59:55Z"
    assert status.qos_class == "BestEffort"


def test_a_pod_that_is_not_ready_says_which_container() -> None:
    status = render_status(observed(make_pod(), containers={"main": live(ready=False)}), NOW)
    ready = find_condition(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "ContainersNotReady")
    assert ready.message == "containers with unready status: [main]"


@pytest.mark.parametrize(
    ("container", "want"),
    [
        pytest.param(live(), ("True", ""), id="its probe passes"),
        pytest.param(live(ready=False), ("False", "ContainersNotReady"), id="its probe fails"),
        pytest.param(replace(live(), stop=STOP), ("True", ""), id="its preStop hook runs"),
        pytest.param(ended(0), ("False", "ContainersNotReady"), id="its container has ended"),
    ],
)
def test_a_pod_that_is_deleted_is_as_ready_as_its_probe_says(container: ContainerSeen, want: tuple[str, str]) -> None:
    pod = make_pod(deletion_timestamp="2026-01-02T12:00:30Z", deletion_grace_s=30)
    assert conditions(render_status(observed(pod, containers={"main": container}), NOW))["Ready"] == want


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"node_stop_grace_s": 5.0}, id="its node stops"),
        pytest.param({"is_object_gone": True}, id="an orphan"),
    ],
)
def test_a_pod_that_leaves_undeleted_is_not_ready_while_it_still_answers(fields: dict[str, Any]) -> None:
    status = render_status(observed(make_pod(), containers={"main": live()}, **fields), NOW)
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady")
    assert only(status).state.running is not None


def test_a_container_that_is_replaced_is_not_ready() -> None:
    status = render_status(observed(make_pod(), containers={"main": replace(live(), stop=STOP)}), NOW)
    assert conditions(status)["Ready"] == ("False", "ContainersNotReady")


def test_last_transition_time_moves_only_with_the_status() -> None:
    pod = make_pod()
    first = render_status(observed(pod, containers={"main": live(ready=False)}), NOW)
    later = NOW.replace(hour=13)
    pod.status = first
    second = render_status(observed(pod, containers={"main": live()}), later)
    times = {c.type: c.last_transition_time for c in second.conditions}
    assert times["Initialized"] == "2026-01-02T12:00:00Z"
    assert times["Ready"] == "2026-01-02T13:00:00Z"
    assert second.start_time == "2026-01-02T12:00:00Z"


def test_same_input_gives_the_same_status() -> None:
    pod = make_pod()
    pod.status = render_status(observed(pod, containers={"main": live()}), NOW)
    again = render_status(observed(pod, containers={"main": live()}), NOW.replace(hour=13))
    assert Pod(status=again).to_dict() == Pod(status=pod.status).to_dict()


def test_a_container_in_backoff_waits_and_tells_how_it_ended() -> None:
    seen = observed(make_pod(), containers={"main": ended(3, restart=2, backoff_s=20)})
    container = only(render_status(seen, NOW))
    assert container.state.waiting.reason == "CrashLoopBackOff"
    assert container.state.waiting.message.startswith("back-off 20s restarting failed container=main pod=web-0_default")
    assert container.last_state.terminated.exit_code == 3
    assert container.last_state.terminated.reason == "Error"
    assert container.restart_count == 2


def test_an_exit_code_of_zero_reaches_the_wire() -> None:
    status = render_status(observed(make_pod(restartPolicy="Never"), containers={"main": ended(0)}), NOW)
    wire = Pod(status=status).to_dict()["status"]["containerStatuses"][0]
    assert wire["state"]["terminated"]["exitCode"] == 0
    assert wire["ready"] is False
    assert wire["restartCount"] == 0


def test_a_blocked_container_says_why() -> None:
    blocked = ContainerSeen(blocked=Blocked("CreateContainerConfigError", 'secret "x" not found'))
    status = render_status(observed(make_pod(), containers={"main": blocked}), NOW)
    assert only(status).state.waiting.reason == "CreateContainerConfigError"
    assert status.phase == "Pending"


def test_init_containers_come_first() -> None:
    pod = make_pod("p", initContainers=[make_container("init")])
    status = render_status(observed(pod, containers={"init": live()}), NOW)
    assert conditions(status)["Initialized"] == ("False", "ContainersNotInitialized")
    assert only(status).state.waiting.reason == "PodInitializing"
    done = render_status(observed(pod, containers={"init": ended(0), "main": live()}), NOW)
    assert conditions(done)["Initialized"] == ("True", "")
    assert conditions(done)["Ready"] == ("True", "")


def test_a_failed_init_container_fails_a_pod_that_says_never() -> None:
    pod = make_pod("p", restartPolicy="Never", initContainers=[make_container("init")])
    assert render_status(observed(pod, containers={"init": ended(1)}), NOW).phase == "Failed"


def test_a_finished_pod_stays_finished() -> None:
    pod = make_pod(restartPolicy="Never", status={"phase": "Succeeded"})
    assert render_status(observed(pod), NOW).phase == "Succeeded"


def test_readiness_gates_hold_ready_back() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/gate"}])
    status = render_status(observed(pod, containers={"main": live()}), NOW)
    assert conditions(status)["ContainersReady"] == ("True", "")
    assert conditions(status)["Ready"] == ("False", "ReadinessGatesNotReady")


def test_a_refused_pod_fails_with_the_reason() -> None:
    status = render_status(replace(observed(make_pod()), problem="bad name"), NOW)
    assert (status.phase, status.reason, status.message) == ("Failed", "InvalidPod", "bad name")


@pytest.mark.parametrize(
    ("resources", "want"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"nvidia.com/gpu": 1}}, "BestEffort"),
    ],
)
def test_qos_class(resources: dict[str, Any], want: str) -> None:
    assert qos_class(make_pod("p", make_container(resources=resources))) == want
