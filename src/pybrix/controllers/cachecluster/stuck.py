"""Free a rollout that waits for a member that never becomes ready. Pure.

A StatefulSet that starts its pods in order goes on only when each of them is ready, also with one of a spec that is
over: a pod that no node has room for, or whose image does not exist, holds up its own correction
(https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback).
"""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.api.apps import StatefulSet
from pybrix.api.core import Pod
from pybrix.api.meta import Object
from pybrix.api.names import CONTROLLER_REVISION_HASH
from pybrix.controllers.cachecluster.children import is_controlled
from pybrix.controllers.cachecluster.members import is_serving
from pybrix.runtime.actions import Delete


def plan_stuck(owner: Object, workload: Object | None, pods: Iterable[Pod]) -> tuple[Delete, ...]:
    """Return the deletion of a member that serves nothing and is of an old spec; one at a time, as in a rollout."""
    if not isinstance(workload, StatefulSet) or workload.metadata.is_terminating:
        return ()
    status = workload.status
    if not status.update_revision or status.observed_generation < workload.metadata.generation:
        # Which revision is the new one is not known yet.
        return ()
    away = [pod for pod in pods if is_controlled(pod, workload) and not is_serving(pod)]
    is_old = [pod.metadata.labels.get(CONTROLLER_REVISION_HASH) != status.update_revision for pod in away]
    if not away or not all(is_old) or any(pod.metadata.is_terminating for pod in away):
        # All serve, or one is on its way.
        return ()
    pod = max(away, key=lambda each: (len(each.metadata.name), each.metadata.name))
    return (Delete(Pod, pod.key, pod.uid, "it is not ready, and the spec is another one by now", owner=owner),)
