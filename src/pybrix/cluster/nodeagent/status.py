"""Say what a pod's status is, from what was seen of it. Pure.

Rules of phase and conditions: `pkg/kubelet/kubelet_pods.go` (getPhase) and `pkg/kubelet/status/generate.go`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.core import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodIP,
    PodStatus,
)
from pybrix.api.meta import Condition, find_condition, set_condition
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.nodeagent.seen import Observed, Run, is_sidecar
from pybrix.cluster.nodeagent.standing import CREATING, Standing, Step, is_pod_over, standings

_TRUE, _FALSE = "True", "False"


def render_status(seen: Observed, now: datetime) -> PodStatus:
    """Return the status that the pod should have."""
    old, stamp = seen.pod.status, format_rfc3339(now)
    if seen.problem:
        return _replaced(old, phase="Failed", reason="InvalidPod", message=seen.problem)
    found = standings(seen, now)
    init = [_container_status(seen, c, found[c.name], is_init=True) for c in seen.pod.spec.init_containers]
    main = [_container_status(seen, c, found[c.name]) for c in seen.pod.spec.containers]
    phase = old.phase if seen.pod.is_finished else _phase(seen, found)
    return _replaced(
        old,
        phase=phase,
        conditions=_conditions(seen, phase, init, main, stamp),
        host_ip=seen.host_ip,
        pod_ip=seen.pod_ip,
        pod_ips=[PodIP(ip=seen.pod_ip)] if seen.pod_ip else [],
        start_time=old.start_time or stamp,
        init_container_statuses=init,
        container_statuses=main,
        qos_class=old.qos_class or qos_class(seen.pod),
        observed_generation=seen.pod.metadata.generation or old.observed_generation,
    )


def _replaced(status: PodStatus, **changes: Any) -> PodStatus:
    new: PodStatus = msgspec.structs.replace(status, **changes)
    return new


def _container_status(
    seen: Observed, container: Container, standing: Standing, *, is_init: bool = False
) -> ContainerStatus:
    it = seen.container(container.name)
    run = it.run
    state, last = ContainerState(), _last_state(it.previous)
    is_ready = is_started = False
    if run is None:
        state = ContainerState(
            waiting=ContainerStateWaiting(reason=standing.reason or CREATING, message=standing.message)
        )
    elif run.exit is None:
        state = ContainerState(running=ContainerStateRunning(started_at=format_rfc3339(run.started_at)))
        is_started = it.health.is_started
        is_regular_init = is_init and not is_sidecar(container)
        # A pod that is deleted stays ready while its probe passes, until its containers end (KEP-1672): who reads its
        # deletionTimestamp knows that it leaves, and may still send it what nobody else can take.
        is_staying = seen.pod.metadata.is_terminating or (it.stop is None and not seen.is_leaving)
        is_ready = is_started and it.health.is_ready and is_staying and not is_regular_init
    elif standing.step == Step.WAIT and not seen.is_leaving:
        state = ContainerState(waiting=ContainerStateWaiting(reason=standing.reason, message=standing.message))
        last = _last_state(run)
    else:
        state = _last_state(run)
        is_ready = is_init and not is_sidecar(container) and run.exit.code == 0
    return ContainerStatus(
        name=container.name,
        ready=is_ready,
        restart_count=run.restart if run is not None else 0,
        image=container.image,
        image_id=run.image_id if run is not None else "",
        state=state,
        last_state=last,
        started=is_started,
        container_id=run.container_id if run is not None else "",
    )


def _last_state(run: Run | None) -> ContainerState:
    if run is None or run.exit is None:
        return ContainerState()
    return ContainerState(
        terminated=ContainerStateTerminated(
            exit_code=run.exit.code,
            reason=run.exit.reason or ("Completed" if run.exit.code == 0 else "Error"),
            message=run.exit.message,
            started_at=format_rfc3339(run.started_at),
            finished_at=format_rfc3339(run.exit.finished_at),
        )
    )


def _phase(seen: Observed, found: dict[str, Standing]) -> str:
    containers = seen.pod.spec.containers
    if is_pod_over(seen, found):
        return "Failed" if any(found[c.name].step == Step.FAILED for c in containers) else "Succeeded"
    # A container that was never started is what Pending means; one that waits for its restart is not.
    return "Running" if all(seen.container(c.name).run is not None for c in containers) else "Pending"


def _conditions(
    seen: Observed, phase: str, init: list[ContainerStatus], main: list[ContainerStatus], stamp: str
) -> list[Condition]:
    is_over = phase in ("Succeeded", "Failed")
    sidecars = {c.name for c in seen.pod.spec.init_containers if is_sidecar(c)}
    has_run = any(c.container_id for c in main)
    incomplete = [c.name for c in init if not (c.started if c.name in sidecars else c.ready)]
    unready = [c.name for c in (*init, *main) if not c.ready and (c.name in sidecars or c in main)]
    wanted = [Condition(type="PodReadyToStartContainers", status=_TRUE if seen.pod_ip and not is_over else _FALSE)]
    if phase == "Succeeded" or has_run or not incomplete:
        wanted.append(Condition(type="Initialized", status=_TRUE, reason="PodCompleted" if is_over else ""))
    else:
        text = f"containers with incomplete status: [{' '.join(incomplete)}]"
        wanted.append(Condition(type="Initialized", status=_FALSE, reason="ContainersNotInitialized", message=text))
    if phase == "Succeeded":
        ready = Condition(type="ContainersReady", status=_FALSE, reason="PodCompleted")
    elif phase == "Failed":
        ready = Condition(type="ContainersReady", status=_FALSE, reason="PodFailed")
    elif unready:
        text = f"containers with unready status: [{' '.join(unready)}]"
        ready = Condition(type="ContainersReady", status=_FALSE, reason="ContainersNotReady", message=text)
    else:
        ready = Condition(type="ContainersReady", status=_TRUE)
    gate = _closed_gate(seen.pod)
    if ready.is_true and gate:
        text = f'corresponding condition of pod readiness gate "{gate}" does not exist or is not True.'
        pod_ready = Condition(type="Ready", status=_FALSE, reason="ReadinessGatesNotReady", message=text)
    else:
        pod_ready = msgspec.structs.replace(ready, type="Ready")
    wanted += [pod_ready, ready]
    conditions = list(seen.pod.status.conditions)
    for condition in wanted:
        conditions = set_condition(conditions, condition, stamp)
    if find_condition(conditions, "PodScheduled") is None:
        conditions = set_condition(conditions, Condition(type="PodScheduled", status=_TRUE), stamp)
    return conditions


def _closed_gate(pod: Pod) -> str:
    for gate in pod.spec.readiness_gates:
        kind = gate.get("conditionType", "")
        found = find_condition(pod.status.conditions, kind)
        if found is None or not found.is_true:
            return kind
    return ""


def qos_class(pod: Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort; rules: `pkg/apis/core/v1/helper/qos`."""
    resources = [c.resources for c in (*pod.spec.containers, *pod.spec.init_containers)]
    names = ("cpu", "memory")
    if not any(r.requests.get(n) or r.limits.get(n) for r in resources for n in names):
        return "BestEffort"
    for r in resources:
        for name in names:
            limit = r.limits.get(name)
            if not limit or str(r.requests.get(name, limit)) != str(limit):
                return "Burstable"
    return "Guaranteed"
