"""Where each container of a pod stands: live, to be started, waiting, over. Pure; `plan` and `status` agree by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pybrix.api.core import Container
from pybrix.cluster.nodeagent.seen import ContainerSeen, Observed, is_sidecar

INITIALIZING = "PodInitializing"
CREATING = "ContainerCreating"
CRASH_LOOP = "CrashLoopBackOff"


class Step(StrEnum):
    """What comes next for a container."""

    LIVE = "live"
    START = "start"
    WAIT = "wait"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """`reason`, `message` and `until` belong to WAIT; `until` None waits for something else to change."""

    step: Step
    reason: str = ""
    message: str = ""
    until: datetime | None = None

    @property
    def is_over(self) -> bool:
        return self.step in (Step.SUCCEEDED, Step.FAILED)


_LIVE = Standing(Step.LIVE)
_START = Standing(Step.START)
_SUCCEEDED = Standing(Step.SUCCEEDED)
_FAILED = Standing(Step.FAILED)


def standings(seen: Observed, now: datetime) -> dict[str, Standing]:
    """Return where each container stands: init containers in their order, then the others together."""
    spec = seen.pod.spec
    found: dict[str, Standing] = {}
    is_initialized, has_init_failed = True, False
    for container in spec.init_containers:
        standing = _init_standing(seen, container, now) if is_initialized else Standing(Step.WAIT, INITIALIZING)
        found[container.name] = standing
        if is_sidecar(container):
            it = seen.container(container.name)
            is_passed = it.is_live and it.health.is_started
        else:
            is_passed = standing.step == Step.SUCCEEDED
        has_init_failed = has_init_failed or (standing.step == Step.FAILED and not is_sidecar(container))
        is_initialized = is_initialized and is_passed
    # A sidecar that starts anew holds nothing back once the others have run.
    has_run = any(seen.container(c.name).run is not None for c in spec.containers)
    for container in spec.containers:
        it = seen.container(container.name)
        if it.run is None and not is_initialized and not has_run:
            found[container.name] = Standing(Step.WAIT, INITIALIZING)
        else:
            found[container.name] = _standing(seen, container.name, it, spec.restart_policy, now)
    if has_init_failed:
        found |= {c.name: _FAILED for c in spec.containers if not seen.container(c.name).is_live}
    return found


def _init_standing(seen: Observed, container: Container, now: datetime) -> Standing:
    it = seen.container(container.name)
    if is_sidecar(container):
        return _standing(seen, container.name, it, "Always", now)
    # An init container that succeeded is never run again; one that failed is, unless the pod says Never.
    policy = "Never" if seen.pod.spec.restart_policy == "Never" else "OnFailure"
    return _standing(seen, container.name, it, policy, now)


def _standing(seen: Observed, name: str, it: ContainerSeen, policy: str, now: datetime) -> Standing:
    if it.is_live:
        return _LIVE
    exit_ = it.run.exit if it.run is not None else None
    if exit_ is not None and not exit_.is_interrupted:
        if exit_.code == 0 and policy != "Always":
            return _SUCCEEDED
        if policy == "Never":
            return _FAILED
    if it.blocked is not None:
        return Standing(Step.WAIT, it.blocked.reason, it.blocked.message)
    due = it.run.due_at if it.run is not None else None
    if it.run is None or due is None or now >= due:
        return _START
    meta = seen.pod.metadata
    back_off = f"back-off {it.run.backoff_s:.0f}s restarting failed container={name} pod={meta.name}_{meta.namespace}"
    return Standing(Step.WAIT, CRASH_LOOP, f"{back_off}({meta.uid})", due)


def is_pod_over(seen: Observed, found: dict[str, Standing]) -> bool:
    """Say whether no container of the pod will run again (sidecars aside)."""
    containers = seen.pod.spec.containers
    return bool(containers) and all(found[c.name].is_over for c in containers)
