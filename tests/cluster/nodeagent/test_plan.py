"""What the node agent does next, as tables over what it sees."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.clock import format_rfc3339
from pybrix.cluster.nodeagent.plan import BeginStop, DeletePod, Ending, Forget, PodPlan, Signal, Start, plan
from pybrix.cluster.nodeagent.seen import Blocked, ContainerSeen, Exit, Run, Stop
from tests.support.pods import NOW, ended, live, make_container, make_pod, observed


def names(planned: PodPlan, kind: type) -> list[str]:
    return [
        a.container.name for a in planned.actions if isinstance(a, kind) and isinstance(a, Start | BeginStop | Signal)
    ]


def in_s(seconds: float) -> str:
    return format_rfc3339(NOW + timedelta(seconds=seconds))


class TestStarting:
    def test_starts_every_container_of_a_new_pod(self) -> None:
        got = plan(observed(make_pod("p", make_container("a"), make_container("b"))), NOW)
        assert names(got, Start) == ["a", "b"]
        assert [a.restart for a in got.actions if isinstance(a, Start)] == [0, 0]

    def test_leaves_a_running_pod_alone(self) -> None:
        assert plan(observed(make_pod(), containers={"main": live()}), NOW) == PodPlan()

    def test_waits_for_a_blocked_container_and_says_why_once(self) -> None:
        blocked = ContainerSeen(blocked=Blocked("ErrImagePull", "no program"))
        got = plan(observed(make_pod(), containers={"main": blocked}), NOW)
        assert got.actions == ()
        assert got.next_look_at == NOW + timedelta(seconds=10)
        assert [n.message for n in got.notes] == ["Error: ErrImagePull: no program"]

    def test_never_starts_a_pod_whose_names_are_refused(self) -> None:
        got = plan(observed(make_pod(), problem="container name '../x' is not a DNS label"), NOW)
        assert got.actions == ()
        assert [n.reason for n in got.notes] == ["InvalidPod"]


class TestInitContainers:
    POD = make_pod("p", initContainers=[make_container("first"), make_container("second")])

    @pytest.mark.parametrize(
        ("containers", "want"),
        [
            pytest.param({}, ["first"], id="the first alone"),
            pytest.param({"first": live()}, [], id="the second waits for the first"),
            pytest.param({"first": ended(0)}, ["second"], id="the second after the first succeeded"),
            pytest.param({"first": ended(1)}, ["first"], id="the first again after it failed"),
            pytest.param({"first": ended(0), "second": ended(0)}, ["main"], id="the pod's own after all"),
            pytest.param({"first": ended(0), "second": ended(0), "main": live()}, [], id="nothing while it runs"),
        ],
    )
    def test_run_one_after_the_other(self, containers: dict[str, ContainerSeen], want: list[str]) -> None:
        assert names(plan(observed(self.POD, containers=containers), NOW), Start) == want

    def test_failure_is_final_where_the_pod_says_never(self) -> None:
        pod = make_pod("p", restartPolicy="Never", initContainers=[make_container("first")])
        assert plan(observed(pod, containers={"first": ended(1)}), NOW).actions == ()

    def test_sidecar_has_to_be_started_before_the_next(self) -> None:
        pod = make_pod("p", initContainers=[make_container("side", restartPolicy="Always")])
        assert names(plan(observed(pod), NOW), Start) == ["side"]
        assert names(plan(observed(pod, containers={"side": live(started=False)}), NOW), Start) == []
        assert names(plan(observed(pod, containers={"side": live()}), NOW), Start) == ["main"]

    def test_sidecar_ends_when_the_others_are_over(self) -> None:
        pod = make_pod("p", restartPolicy="Never", initContainers=[make_container("side", restartPolicy="Always")])
        got = plan(observed(pod, containers={"side": live(), "main": ended(0)}), NOW)
        assert names(got, BeginStop) == ["side"]

    def test_sidecar_that_crashed_holds_nothing_back(self) -> None:
        pod = make_pod("p", initContainers=[make_container("side", restartPolicy="Always")])
        got = plan(observed(pod, containers={"side": ended(1), "main": ended(1)}), NOW)
        assert names(got, Start) == ["side", "main"]


class TestRestarting:
    @pytest.mark.parametrize(
        ("policy", "code", "is_restarted"),
        [
            ("Always", 0, True),
            ("Always", 1, True),
            ("OnFailure", 0, False),
            ("OnFailure", 1, True),
            ("Never", 0, False),
            ("Never", 1, False),
        ],
    )
    def test_follows_the_policy(self, policy: str, code: int, is_restarted: bool) -> None:
        got = plan(observed(make_pod(restartPolicy=policy), containers={"main": ended(code)}), NOW)
        assert names(got, Start) == (["main"] if is_restarted else [])

    def test_first_restart_is_immediate_and_the_second_waits_10_s(self) -> None:
        first = plan(observed(make_pod(), containers={"main": ended()}), NOW)
        assert [(a.restart, a.backoff_s) for a in first.actions if isinstance(a, Start)] == [(1, 10.0)]
        second = plan(observed(make_pod(), containers={"main": ended(restart=1, backoff_s=10, ago_s=4)}), NOW)
        assert second.actions == ()
        assert second.next_look_at == NOW + timedelta(seconds=6)
        assert [n.reason for n in second.notes] == ["BackOff"]

    def test_backoff_doubles_up_to_300_s(self) -> None:
        waits, backoff_s = [], 0.0
        for restart in range(9):
            seen = ended(restart=restart, backoff_s=backoff_s, ago_s=301)
            (start,) = plan(observed(make_pod(), containers={"main": seen}), NOW).actions
            assert isinstance(start, Start)
            backoff_s = start.backoff_s
            waits.append(backoff_s)
        assert waits == [10, 20, 40, 80, 160, 300, 300, 300, 300]

    def test_a_run_of_more_than_10_minutes_resets_the_backoff(self) -> None:
        seen = ended(restart=7, backoff_s=300, ran_s=601)
        (start,) = plan(observed(make_pod(), containers={"main": seen}), NOW).actions
        assert isinstance(start, Start)
        assert (start.restart, start.backoff_s) == (8, 10.0)

    @pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
    def test_what_the_node_interrupted_runs_again_at_once(self, policy: str) -> None:
        seen = ended(143, restart=3, backoff_s=80, interrupted=True)
        got = plan(observed(make_pod(restartPolicy=policy), containers={"main": seen}), NOW)
        assert [(a.restart, a.backoff_s) for a in got.actions if isinstance(a, Start)] == [(4, 80)]

    def test_a_failed_liveness_probe_stops_the_run_first(self) -> None:
        pod = make_pod(terminationGracePeriodSeconds=7)
        got = plan(observed(pod, containers={"main": live(failure="failed liveness probe")}), NOW)
        (stop,) = got.actions
        assert isinstance(stop, BeginStop)
        assert stop.grace_s == 7
        assert stop.why == "Container main failed liveness probe, will be restarted"
        assert got.is_status_first


class TestStopping:
    def pod(self, grace_s: int = 30) -> object:
        return make_pod(deletion_timestamp=in_s(grace_s), deletion_grace_s=grace_s)

    def stop(
        self, *, ago_s: float, grace_s: float = 30, pre_stop_over: bool = True, term_ago_s: float | None = None
    ) -> Stop:
        term_at = NOW - timedelta(seconds=term_ago_s) if term_ago_s is not None else None
        return Stop(NOW - timedelta(seconds=ago_s), grace_s, "the pod is deleted", pre_stop_over, term_at)

    def test_begins_with_the_status_then_the_hook(self) -> None:
        pod = make_pod(deletion_timestamp=in_s(30), deletion_grace_s=30)
        got = plan(observed(pod, containers={"main": live()}), NOW)
        assert got.is_status_first
        assert names(got, BeginStop) == ["main"]

    def test_a_later_agent_counts_the_grace_from_the_deletion(self) -> None:
        pod = make_pod(deletion_timestamp=in_s(10), deletion_grace_s=30)
        (stop,) = plan(observed(pod, containers={"main": live()}), NOW).actions
        assert isinstance(stop, BeginStop)
        assert stop.requested_at == NOW - timedelta(seconds=20)

    @pytest.mark.parametrize(
        ("stop_fields", "want", "look_in_s"),
        [
            pytest.param({"ago_s": 1, "pre_stop_over": False}, None, 29, id="waits for preStop"),
            pytest.param({"ago_s": 1}, Ending.TERM, None, id="then SIGTERM"),
            pytest.param({"ago_s": 30, "pre_stop_over": False}, Ending.TERM, None, id="SIGTERM when preStop takes all"),
            pytest.param({"ago_s": 30, "term_ago_s": 0}, None, 2, id="two seconds after a late SIGTERM"),
            pytest.param({"ago_s": 5, "term_ago_s": 4}, None, 25, id="waits for the grace"),
            pytest.param({"ago_s": 30, "term_ago_s": 29}, Ending.KILL, None, id="then SIGKILL"),
        ],
    )
    def test_goes_step_by_step(
        self, stop_fields: dict[str, float], want: Ending | None, look_in_s: float | None
    ) -> None:
        pod = make_pod(deletion_timestamp=in_s(30), deletion_grace_s=30)
        seen = live(stop=self.stop(**stop_fields))  # type: ignore[arg-type]
        got = plan(observed(pod, containers={"main": seen}), NOW)
        assert [a.ending for a in got.actions if isinstance(a, Signal)] == ([want] if want else [])
        assert got.next_look_at == (NOW + timedelta(seconds=look_in_s) if look_in_s is not None else None)

    def test_a_shorter_second_deadline_counts(self) -> None:
        pod = make_pod(deletion_timestamp=in_s(0), deletion_grace_s=0)
        seen = live(stop=self.stop(ago_s=3, term_ago_s=3))
        assert [
            a.ending for a in plan(observed(pod, containers={"main": seen}), NOW).actions if isinstance(a, Signal)
        ] == [Ending.KILL]

    def test_deletes_the_object_when_all_has_ended(self) -> None:
        pod = make_pod("p", make_container("a"), make_container("b"), deletion_timestamp=in_s(30), deletion_grace_s=30)
        got = plan(observed(pod, containers={"a": ended(0), "b": live(stop=self.stop(ago_s=1, term_ago_s=1))}), NOW)
        assert got.actions == ()
        got = plan(observed(pod, containers={"a": ended(0), "b": ended(143)}), NOW)
        assert [type(a) for a in got.actions] == [DeletePod]

    def test_a_terminating_pod_never_starts_anything(self) -> None:
        pod = make_pod(deletion_timestamp=in_s(30), deletion_grace_s=30)
        assert [type(a) for a in plan(observed(pod), NOW).actions] == [DeletePod]

    def test_processes_of_a_vanished_object_end_and_are_forgotten(self) -> None:
        got = plan(observed(make_pod(), containers={"main": live()}, is_object_gone=True), NOW)
        (stop,) = got.actions
        assert isinstance(stop, BeginStop)
        assert (stop.grace_s, stop.is_pre_stop_skipped) == (2.0, True)
        got = plan(observed(make_pod(), containers={"main": ended()}, is_object_gone=True), NOW)
        assert [type(a) for a in got.actions] == [Forget]

    def test_sidecars_end_after_the_others_the_last_first(self) -> None:
        side = [make_container(n, restartPolicy="Always") for n in ("one", "two")]
        pod = make_pod("p", initContainers=side, deletion_timestamp=in_s(30), deletion_grace_s=30)
        all_live = {"one": live(), "two": live(), "main": live()}
        assert names(plan(observed(pod, containers=all_live), NOW), BeginStop) == ["main"]
        assert names(plan(observed(pod, containers=all_live | {"main": ended(0)}), NOW), BeginStop) == ["two"]

    def test_a_node_that_stops_ends_runs_as_interrupted_and_keeps_the_object(self) -> None:
        pod = make_pod(terminationGracePeriodSeconds=60)
        (stop,) = plan(observed(pod, containers={"main": live()}, node_stop_grace_s=5.0), NOW).actions
        assert isinstance(stop, BeginStop)
        assert stop.grace_s == 5.0
        seen = live(stop=Stop(NOW, 5.0, "the node stops", is_pre_stop_over=True))
        (signal,) = plan(observed(pod, containers={"main": seen}, node_stop_grace_s=5.0), NOW).actions
        assert isinstance(signal, Signal)
        assert signal.is_interrupting
        assert (
            plan(observed(pod, containers={"main": ended(143, interrupted=True)}, node_stop_grace_s=5.0), NOW)
            == PodPlan()
        )


exits = st.builds(
    lambda code, interrupted: ended(code, ago_s=1000, interrupted=interrupted), st.integers(0, 3), st.booleans()
)
states = st.one_of(st.just(ContainerSeen()), exits, st.builds(live, ready=st.booleans(), started=st.booleans()))


@given(states, states, st.sampled_from(["Always", "OnFailure", "Never"]), st.integers(0, 3))
def test_every_pod_settles_and_a_deleted_one_ends_in_one_deletion(
    init: ContainerSeen, main: ContainerSeen, policy: str, code: int
) -> None:
    """Apply plans to a world in which signals end processes: no state is left in which the agent does nothing."""
    pod = make_pod(
        "p",
        restartPolicy=policy,
        initContainers=[make_container("init")],
        deletion_timestamp=in_s(30),
        deletion_grace_s=30,
    )
    containers = {"init": init, "main": main}
    now = NOW
    for _ in range(20):
        got = plan(observed(pod, containers=containers), now)
        if any(isinstance(a, DeletePod) for a in got.actions):
            assert not any(c.is_live for c in containers.values())
            return
        assert not any(isinstance(a, Start) for a in got.actions)
        for action in got.actions:
            assert isinstance(action, BeginStop | Signal)
            it = containers[action.container.name]
            assert it.run is not None
            if isinstance(action, BeginStop):
                stop = Stop(action.requested_at, action.grace_s, action.why, is_pre_stop_over=True)
                containers[action.container.name] = ContainerSeen(it.run, stop=stop)
            else:
                run = it.run
                over = Run(run.restart, run.container_id, run.started_at, run.backoff_s, run.image_id, Exit(code, now))
                containers[action.container.name] = ContainerSeen(over)
        now = got.next_look_at or now
    raise AssertionError("the pod did not end")
