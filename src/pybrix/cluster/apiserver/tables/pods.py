"""The row of a pod: the words of `kubectl get pods`. Pure.

Source of the rules: `printPod` in `k8s.io/kubernetes/pkg/printers/internalversion`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pybrix.base.clock import parse_rfc3339
from pybrix.cluster.apiserver.tables.ages import age, human_duration

Data = dict[str, Any]


def pod_cells(pod: Data, now: datetime) -> list[Any]:
    """Return name, ready, status, restarts, age, IP, node, nominated node, readiness gates."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    reason, restarts = _reason(pod, now)
    containers = status.get("containerStatuses", [])
    sidecars = [c["name"] for c in spec.get("initContainers", ()) if c.get("restartPolicy") == "Always"]
    running = [c for c in status.get("initContainerStatuses", ()) if c.get("name") in sidecars]
    ready = sum(bool(c.get("ready")) and "running" in c.get("state", {}) for c in (*containers, *running))
    total = len(spec.get("containers", ())) + len(sidecars)
    gates = spec.get("readinessGates", [])
    met = sum(
        any(
            c.get("type") == gate.get("conditionType") and c.get("status") == "True"
            for c in status.get("conditions", ())
        )
        for gate in gates
    )
    addresses = status.get("podIPs") or [{"ip": status.get("podIP")}]
    return [
        pod["metadata"].get("name", ""),
        f"{ready}/{total}",
        reason,
        restarts,
        age(pod["metadata"].get("creationTimestamp"), now),
        addresses[0].get("ip") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{met}/{len(gates)}" if gates else "<none>",
    ]


def _reason(pod: Data, now: datetime) -> tuple[str, str]:
    """Return (the STATUS column, the RESTARTS column)."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    conditions = status.get("conditions", [])
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        reason = "SchedulingGated"
    restarts, last = 0, None
    initial = {c.get("name"): c for c in spec.get("initContainers", ())}
    is_initializing = False
    for index, container in enumerate(status.get("initContainerStatuses", ())):
        restarts += container.get("restartCount", 0)
        last = _later(last, container)
        state = container.get("state", {})
        is_sidecar = initial.get(container.get("name"), {}).get("restartPolicy") == "Always"
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if is_sidecar and container.get("started"):
            continue
        if terminated is not None:
            reason = "Init:" + (terminated.get("reason") or _exit(terminated))
        elif waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{index}/{len(spec.get('initContainers', ()))}"
        is_initializing = True
        break
    is_initialized = any(c.get("type") == "Initialized" and c.get("status") == "True" for c in conditions)
    if not is_initializing or is_initialized:
        if not is_initializing:
            restarts, last = 0, None
            for container in status.get("initContainerStatuses", ()):
                if initial.get(container.get("name"), {}).get("restartPolicy") == "Always":
                    restarts += container.get("restartCount", 0)
                    last = _later(last, container)
        has_running = False
        for container in reversed(status.get("containerStatuses", [])):
            restarts += container.get("restartCount", 0)
            last = _later(last, container)
            state = container.get("state", {})
            if state.get("waiting", {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif "terminated" in state:
                reason = state["terminated"].get("reason") or _exit(state["terminated"])
            elif container.get("ready") and "running" in state:
                has_running = True
        if reason == "Completed" and has_running:
            is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
            reason = "Running" if is_ready else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    if restarts and last is not None:
        return reason, f"{restarts} ({human_duration((now - last).total_seconds())} ago)"
    return reason, str(restarts)


def _exit(terminated: Data) -> str:
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _later(last: datetime | None, container: Data) -> datetime | None:
    finished = container.get("lastState", {}).get("terminated", {}).get("finishedAt")
    if not finished:
        return last
    moment = parse_rfc3339(finished)
    return moment if last is None else max(last, moment)
