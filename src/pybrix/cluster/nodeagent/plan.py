"""Decide what the node agent does next about one pod: start, stop and signal processes, delete the object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pybrix.api.core import Container
from pybrix.cluster.nodeagent.seen import ContainerSeen, Observed, Stop, deletion_requested_at, is_sidecar
from pybrix.cluster.nodeagent.standing import CRASH_LOOP, Step, is_pod_over, standings

MINIMUM_GRACE_S = 2.0
"""Time after SIGTERM even when preStop used up the grace; `pkg/kubelet/kuberuntime`: minimumGracePeriodInSeconds."""

BLOCKED_RETRY_S = 10.0
"""How often it is tried again what no watch tells of: a program that somebody installs, a disk with room again."""


class Ending(StrEnum):
    """The two signals that end a run."""

    TERM = "SIGTERM"
    KILL = "SIGKILL"


@dataclass(frozen=True, slots=True)
class Start:
    """Start run number `restart` of a container."""

    container: Container
    restart: int
    backoff_s: float
    why: str


@dataclass(frozen=True, slots=True)
class BeginStop:
    """Ask a run to end; its preStop runs first unless `is_pre_stop_skipped`. The pod reads not ready before this."""

    container: Container
    requested_at: datetime
    grace_s: float
    why: str
    is_pre_stop_skipped: bool = False


@dataclass(frozen=True, slots=True)
class Signal:
    """Signal the processes of a run. `is_interrupting`: the node stops, the run resumes when it is back."""

    container: Container
    ending: Ending
    why: str
    is_interrupting: bool = False


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Confirm to the API server that nothing of the pod runs any more."""

    why: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the pod's directory and give back its address."""

    why: str


Action = Start | BeginStop | Signal | DeletePod | Forget


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should see as an Event, once for as long as it holds."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Actions in order, and when to look again; None: only when something changes."""

    actions: tuple[Action, ...] = ()
    next_look_at: datetime | None = None
    notes: tuple[Note, ...] = ()

    @property
    def is_status_first(self) -> bool:
        """Say whether the status is to be written before acting: endpoints leave before processes do."""
        return any(isinstance(a, BeginStop) for a in self.actions)


def plan(seen: Observed, now: datetime) -> PodPlan:
    """Return the next actions; applying them and looking again leads to the pod's end state, one step at a time."""
    if seen.is_leaving or seen.problem:
        return _plan_leave(seen, now)
    found = standings(seen, now)
    if is_pod_over(seen, found):
        return _plan_leave(seen, now)
    actions: list[Action] = []
    looks: list[datetime] = []
    notes: list[Note] = []
    for container in (*seen.pod.spec.init_containers, *seen.pod.spec.containers):
        it, standing = seen.container(container.name), found[container.name]
        if standing.step == Step.START:
            actions.append(_start(container, it))
        elif standing.step == Step.LIVE and (it.stop is not None or it.health.failure):
            grace_s = it.health.kill_grace_s
            action, look = _stop_step(
                seen,
                container,
                it,
                now,
                grace_s=float(seen.pod.spec.termination_grace_period_seconds if grace_s is None else grace_s),
                why=f"Container {container.name} {it.health.failure}, will be restarted",
            )
            actions += action
            looks += look
        elif standing.until is not None:
            looks.append(standing.until)
        if standing.step == Step.WAIT and it.blocked is not None:
            looks.append(now + timedelta(seconds=BLOCKED_RETRY_S))
            notes.append(Note("Failed", f"Error: {standing.reason}: {standing.message}"))
        elif standing.reason == CRASH_LOOP:
            notes.append(Note("BackOff", standing.message))
    return PodPlan(tuple(actions), min(looks, default=None), tuple(notes))


def _start(container: Container, it: ContainerSeen) -> Start:
    if it.run is None:
        return Start(container, 0, 0.0, why="the container has not run yet")
    code = it.run.exit.code if it.run.exit is not None else 0
    return Start(container, it.run.restart + 1, it.run.next_backoff_s, why=f"run {it.run.restart} ended with {code}")


def _plan_leave(seen: Observed, now: datetime) -> PodPlan:
    """Stop what lives: the containers first, then the sidecars, last started first."""
    notes = (Note("InvalidPod", seen.problem),) if seen.problem else ()
    spec = seen.pod.spec
    live = [c for c in (*spec.containers, *_plain_init(seen)) if seen.container(c.name).is_live]
    if not live:
        sidecars = [c for c in spec.init_containers if is_sidecar(c) and seen.container(c.name).is_live]
        live = sidecars[-1:]
    if not live:
        return PodPlan(_after_leave(seen), notes=notes)
    grace_s, why = _leave_grace_s(seen)
    actions: list[Action] = []
    looks: list[datetime] = []
    for container in live:
        action, look = _stop_step(seen, container, seen.container(container.name), now, grace_s=grace_s, why=why)
        actions += action
        looks += look
    return PodPlan(tuple(actions), min(looks, default=None), notes)


def _plain_init(seen: Observed) -> list[Container]:
    return [c for c in seen.pod.spec.init_containers if not is_sidecar(c)]


def _after_leave(seen: Observed) -> tuple[Action, ...]:
    if seen.is_object_gone:
        return (Forget(why="the pod is gone and nothing of it runs"),)
    if seen.pod.metadata.is_terminating:
        return (DeletePod(why="all its processes have ended"),)
    return ()


def _leave_grace_s(seen: Observed) -> tuple[float, str]:
    spec_s = float(seen.pod.spec.termination_grace_period_seconds)
    if seen.is_object_gone:
        return MINIMUM_GRACE_S, "the pod was removed by force"
    if seen.pod.metadata.is_terminating:
        asked_s = seen.pod.metadata.deletion_grace_period_seconds
        return spec_s if asked_s is None else float(asked_s), "the pod is deleted"
    if seen.node_stop_grace_s is not None:
        return min(spec_s, seen.node_stop_grace_s), "the node stops"
    return spec_s, "the pod is over"


def _stop_step(
    seen: Observed, container: Container, it: ContainerSeen, now: datetime, *, grace_s: float, why: str
) -> tuple[list[Action], list[datetime]]:
    """Return the next step of a stop and, when it is to wait, until when."""
    stop = it.stop
    if stop is None:
        # Another agent may have begun: the grace runs since the deletion was asked for. deletionTimestamp has whole
        # seconds, so a difference of one or two is rounding.
        asked = deletion_requested_at(seen.pod) if seen.pod.metadata.is_terminating else None
        since = asked if asked is not None and (now - asked).total_seconds() > 2 else now
        return [BeginStop(container, since, grace_s, why, is_pre_stop_skipped=seen.is_object_gone)], []
    is_interrupting = seen.node_stop_grace_s is not None and not seen.pod.metadata.is_terminating
    # A second, shorter deadline (delete --grace-period, a node stop) counts; a longer one does not extend the first.
    deadline = stop.requested_at + timedelta(seconds=min(stop.grace_s, grace_s))
    if stop.term_at is None:
        if not stop.is_pre_stop_over and now < deadline:
            return [], [deadline]
        return [Signal(container, Ending.TERM, stop.why, is_interrupting)], []
    deadline = _kill_at(stop, deadline)
    if now < deadline:
        return [], [deadline]
    if stop.kill_at is None:
        late = f"still running {(now - stop.requested_at).total_seconds():.0f} s after it was asked to end"
        return [Signal(container, Ending.KILL, late, is_interrupting)], []
    return [], []


def _kill_at(stop: Stop, deadline: datetime) -> datetime:
    assert stop.term_at is not None
    if stop.grace_s <= 0:
        return deadline
    return max(deadline, stop.term_at + timedelta(seconds=min(MINIMUM_GRACE_S, stop.grace_s)))
