"""Builders of pods and of what a node agent sees of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pybrix.api.core import Pod
from pybrix.cluster.nodeagent.seen import ContainerSeen, Exit, Health, Observed, Run, Stop

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def make_container(name: str = "main", **fields: Any) -> dict[str, Any]:
    """Return a container's JSON form; field names as on the wire."""
    return {"name": name, "image": "pybrix/simulator"} | fields


def make_pod(
    name: str = "web-0",
    *containers: dict[str, Any],
    namespace: str = "default",
    uid: str = "uid-1",
    deletion_timestamp: str | None = None,
    deletion_grace_s: int | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Pod:
    """Return a pod bound to `node-1`; further arguments are fields of its spec, as on the wire."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "7"}
    if deletion_timestamp is not None:
        metadata["deletionTimestamp"] = deletion_timestamp
        metadata["deletionGracePeriodSeconds"] = deletion_grace_s
    metadata |= {"labels": labels or {}, "annotations": annotations or {}}
    spec = {"nodeName": "node-1", "containers": list(containers) or [make_container()]} | spec
    return Pod.from_dict({"metadata": metadata, "spec": spec, "status": status or {}})


def live(
    *,
    restart: int = 0,
    ago_s: float = 5,
    ready: bool = True,
    started: bool = True,
    failure: str = "",
    stop: Stop | None = None,
) -> ContainerSeen:
    """Return a container that runs."""
    run = Run(restart, f"pybrix://{restart}", NOW - timedelta(seconds=ago_s), 10.0 * (restart > 0), "local://x")
    return ContainerSeen(run, health=Health(started, ready, failure), stop=stop)


def ended(
    code: int = 1,
    *,
    ago_s: float = 0,
    ran_s: float = 5,
    restart: int = 0,
    backoff_s: float = 0,
    interrupted: bool = False,
) -> ContainerSeen:
    """Return a container whose newest run ended."""
    finished = NOW - timedelta(seconds=ago_s)
    run = Run(
        restart,
        f"pybrix://{restart}",
        finished - timedelta(seconds=ran_s),
        backoff_s,
        "local://x",
        Exit(code, finished, is_interrupted=interrupted),
    )
    return ContainerSeen(run)


def observed(pod: Pod, **fields: Any) -> Observed:
    """Return what is seen of a pod; `containers` maps names to what `live` and `ended` return."""
    return Observed(pod, **({"pod_ip": "127.65.0.1", "host_ip": "127.0.0.1"} | fields))
