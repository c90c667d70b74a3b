"""What the node agent sees of one pod: the input of `plan` and `status`. Pure values, keyed by the pod's UID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pybrix.api.core import Container, Pod
from pybrix.base.clock import parse_rfc3339

FIRST_BACKOFF_S = 10.0
MAX_BACKOFF_S = 300.0
BACKOFF_RESET_S = 600.0
"""A container that ran for so long starts again at once; `pkg/kubelet`: twice the maximum, client-go `flowcontrol`."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. `is_interrupted`: by the node (stop, reboot), not by the program or its pod's end."""

    code: int
    finished_at: datetime
    reason: str = ""
    message: str = ""
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a container. `restart` counts from 0; `backoff_s` is the wait after its end."""

    restart: int
    container_id: str
    started_at: datetime
    backoff_s: float = 0.0
    image_id: str = ""
    exit: Exit | None = None
    is_told_by_log: bool = False
    """Whether the end of the log says why it failed (`terminationMessagePolicy: FallbackToLogsOnError`)."""

    @property
    def is_live(self) -> bool:
        return self.exit is None

    @property
    def due_at(self) -> datetime | None:
        """Return when the next run may start, None while this one lives."""
        if self.exit is None:
            return None
        ran_s = (self.exit.finished_at - self.started_at).total_seconds()
        if self.exit.is_interrupted or ran_s > BACKOFF_RESET_S:
            return self.exit.finished_at
        return self.exit.finished_at + timedelta(seconds=self.backoff_s)

    @property
    def next_backoff_s(self) -> float:
        """Return the `backoff_s` of the next run: 10 s, doubling to 300 s; 10 s again after a long run."""
        if self.exit is not None:
            if self.exit.is_interrupted:
                return self.backoff_s
            if (self.exit.finished_at - self.started_at).total_seconds() > BACKOFF_RESET_S:
                return FIRST_BACKOFF_S
        return min(MAX_BACKOFF_S, self.backoff_s * 2) if self.backoff_s else FIRST_BACKOFF_S


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes of the current run found. A container without probes is started and ready once it runs."""

    is_started: bool = True
    is_ready: bool = True
    failure: str = ""
    """Why the container has to be replaced: a failed liveness or startup probe, a failed postStart; none."""
    kill_grace_s: int | None = None
    """Grace of that replacement where the probe sets one; the pod's."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How far the stop of a run is: preStop, then SIGTERM, then SIGKILL."""

    requested_at: datetime
    grace_s: float
    why: str
    is_pre_stop_over: bool = False
    term_at: datetime | None = None
    kill_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a container cannot be started: reason and message of its `waiting` state."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """One container: its newest run, the one before, and what is known of the newest."""

    run: Run | None = None
    previous: Run | None = None
    health: Health = Health()
    stop: Stop | None = None
    blocked: Blocked | None = None

    @property
    def is_live(self) -> bool:
        return self.run is not None and self.run.is_live


NOTHING = ContainerSeen()


@dataclass(frozen=True, slots=True)
class Observed:
    """One pod, as its object and its processes are."""

    pod: Pod
    pod_ip: str = ""
    host_ip: str = ""
    containers: Mapping[str, ContainerSeen] = field(default_factory=dict)
    is_object_gone: bool = False
    """The API server has no pod of this UID: what still runs is an orphan; false."""
    node_stop_grace_s: float | None = None
    """The node is stopping and gives its processes so long; None: it is not."""
    problem: str = ""
    """Why this node refuses the pod as a whole; none."""

    def container(self, name: str) -> ContainerSeen:
        return self.containers.get(name, NOTHING)

    @property
    def is_any_live(self) -> bool:
        return any(c.is_live for c in self.containers.values())

    @property
    def is_leaving(self) -> bool:
        """Say whether everything of this pod has to end."""
        return (
            self.is_object_gone
            or self.pod.metadata.is_terminating
            or self.node_stop_grace_s is not None
            or self.pod.is_finished
        )


def is_sidecar(container: Container) -> bool:
    """Say whether an init container keeps running beside the pod's containers (restartPolicy Always)."""
    return container.restart_policy == "Always"


def deletion_requested_at(pod: Pod) -> datetime | None:
    """Return when the pod's deletion was asked for: `deletionTimestamp` is that plus the grace period."""
    if pod.metadata.deletion_timestamp is None:
        return None
    deadline = parse_rfc3339(pod.metadata.deletion_timestamp)
    return deadline - timedelta(seconds=pod.metadata.deletion_grace_period_seconds or 0)
