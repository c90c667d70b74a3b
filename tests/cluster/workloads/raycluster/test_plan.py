"""The stand-in for KubeRay: which pods a RayCluster becomes, and what it says of them. Tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pybrix.api.core import Pod
from pybrix.api.meta import find_condition
from pybrix.api.ray import GROUP, HEAD, HEAD_GROUP, HEAD_READY, NODE_TYPE, PROVISIONED, WORKER, RayCluster
from pybrix.cluster.workloads.raycluster.plan import AUTOSCALER_IGNORED, plan
from pybrix.cluster.workloads.raycluster.render import HEAD_ADDRESS, START_COMMAND
from pybrix.cluster.workloads.raycluster.state import observe
from pybrix.cluster.workloads.raycluster.status import next_status
from pybrix.runtime.actions import Create, Delete, Emit, Plan

RAY = "/opt/ray/bin/ray"
NOW = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
HEAD_IP = "127.64.0.7"


def make_cluster(workers: int = 2, *, status: dict[str, Any] | None = None, **spec: Any) -> RayCluster:
    pod = {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray"}]}}
    return RayCluster.from_dict(
        {
            "metadata": {"name": "c", "namespace": "default", "uid": "uid-c", "generation": 1},
            "spec": {
                "headGroupSpec": {"rayStartParams": {"num-cpus": "2"}, "template": pod},
                "workerGroupSpecs": [{"groupName": "g", "replicas": workers, "template": pod}],
                **spec,
            },
            "status": status or {},
        }
    )


def make_pod(
    name: str,
    node_type: str,
    *,
    ray: bool = True,
    ready: bool = True,
    phase: str = "Running",
    head: str = f"uid-c-head {HEAD_IP}",
    group: str = "g",
    terminating: bool = False,
) -> Pod:
    return Pod.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "labels": {NODE_TYPE: node_type, GROUP: HEAD_GROUP if node_type == HEAD else group},
                "annotations": {HEAD_ADDRESS: head},
                "deletionTimestamp": "2026-01-01T00:00:00Z" if terminating else None,
            },
            "spec": {"containers": [{"name": "ray"}, {"name": "engine"}]},
            "status": {
                "phase": phase,
                "podIP": HEAD_IP,
                "containerStatuses": [
                    {"name": "ray", "ready": ray, "restartCount": 0, "image": "", "imageID": ""},
                    {"name": "engine", "ready": ready, "restartCount": 0, "image": "", "imageID": ""},
                ],
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
    )


def planned(cluster: RayCluster, pods: Iterable[Pod], **more: Any) -> Plan:
    return plan(observe(cluster, pods, RAY, **{"has_service": True, **more}))


def made(step: Plan) -> list[str]:
    return [a.manifest["metadata"]["name"] for a in step.actions if isinstance(a, Create)]


def gone(step: Plan) -> list[str]:
    return [a.key.name for a in step.actions if isinstance(a, Delete)]


def the_head(**more: Any) -> Pod:
    return make_pod("c-head", HEAD, **more)


def worker(number: int, **more: Any) -> Pod:
    return make_pod(f"c-g-worker-{number}", WORKER, **more)


@pytest.mark.parametrize(
    ("pods", "creates", "deletes"),
    [
        pytest.param([], ["c-head"], [], id="the head comes first"),
        pytest.param([the_head(ray=False, ready=False)], [], [], id="workers wait until Ray runs there"),
        pytest.param(
            [the_head(ready=False)],
            ["c-g-worker-0", "c-g-worker-1"],
            [],
            id="not for an engine that waits for them",
        ),
        pytest.param([the_head(), worker(1)], ["c-g-worker-0"], [], id="a lost worker is made again"),
        pytest.param([the_head(), worker(0), worker(1), worker(2)], [], ["c-g-worker-2"], id="one too many"),
        pytest.param(
            [the_head(), worker(0, head="uid-old 127.64.0.3"), worker(1)],
            ["c-g-worker-2"],
            ["c-g-worker-0"],
            id="a worker of an earlier head can never join",
        ),
        pytest.param([the_head(terminating=True)], [], [], id="a name that is taken is waited for"),
        pytest.param([the_head(phase="Failed")], [], ["c-head"], id="a head that ended goes"),
        pytest.param(
            [the_head(), worker(0), worker(1), make_pod("c-x-worker-0", WORKER, group="x")],
            [],
            ["c-x-worker-0"],
            id="a group that is no longer there",
        ),
    ],
)
def test_pods(pods: list[Pod], creates: list[str], deletes: list[str]) -> None:
    step = planned(make_cluster(), pods)
    assert (made(step), gone(step)) == (creates, deletes)


def test_the_head_gets_a_service() -> None:
    assert made(planned(make_cluster(), [], has_service=False)) == ["c-head-svc", "c-head"]


def test_a_suspended_cluster_has_no_pods() -> None:
    step = planned(make_cluster(suspend=True), [the_head(), worker(0)])
    assert (made(step), gone(step)) == ([], ["c-g-worker-0", "c-head"]) or gone(step) == ["c-head", "c-g-worker-0"]


def test_without_ray_nothing_is_made_and_the_status_says_so() -> None:
    seen = observe(make_cluster(), [], "")
    assert plan(seen).actions == ()
    failure = find_condition(next_status(seen, NOW).conditions, "ReplicaFailure")
    assert failure is not None
    assert "pip install 'pybrix[ray]'" in failure.message


def test_an_autoscaler_is_told_to_have_no_effect_once() -> None:
    cluster = make_cluster(autoscalerOptions={"idleTimeoutSeconds": 60})
    told = [a.why for a in planned(cluster, []).actions if isinstance(a, Emit)]
    assert told == [AUTOSCALER_IGNORED]
    cluster.status = next_status(observe(cluster, [], RAY), NOW)
    assert [a for a in planned(cluster, []).actions if isinstance(a, Emit)] == []


def container(cluster: RayCluster) -> dict[str, Any]:
    (create,) = [a for a in planned(cluster, []).actions if isinstance(a, Create)]
    found: dict[str, Any] = create.manifest["spec"]["containers"][0]
    return found


def test_ray_starts_small_on_the_pods_own_address() -> None:
    found = container(make_cluster())
    (command,) = found["args"]
    assert command.startswith(f"exec {RAY} start ")
    for flag in ("--head", "--block", "--num-cpus=2", "--node-ip-address=$(POD_IP)", "--include-dashboard=false"):
        assert flag in command.split()
    assert "--object-store-memory=83886080" in command
    environment = {entry["name"]: entry.get("value") for entry in found["env"]}
    assert environment[START_COMMAND] == command
    assert environment["RAY_ADDRESS"] == "$(POD_IP):6379"


@pytest.mark.parametrize(
    ("annotations", "want"),
    [
        pytest.param({}, "/bin/bash", id="KubeRay's shell runs the container's own command, and then Ray"),
        pytest.param({"ray.io/overwrite-container-cmd": "true"}, "mine", id="the container's own command starts Ray"),
    ],
)
def test_a_command_of_the_container(annotations: dict[str, str], want: str) -> None:
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "ray", "command": ["mine"], "args": ["now"]}]},
    }
    found = container(make_cluster(headGroupSpec={"template": template}))
    assert found["command"][0] == want
    assert want == "mine" or found["args"][0].startswith("mine now && exec ")


def test_status_is_kuberays() -> None:
    cluster = make_cluster()
    starting = next_status(observe(cluster, [the_head(ready=False)], RAY), NOW)
    assert (starting.state, starting.desired_worker_replicas, starting.ready_worker_replicas) == ("", 2, 0)
    assert {c.type: c.status for c in starting.conditions} == {HEAD_READY: "False", PROVISIONED: "False"}
    cluster.status = starting
    pods = [the_head(), worker(0), worker(1)]
    ready = next_status(observe(cluster, pods, RAY), NOW)
    assert (ready.state, ready.ready_worker_replicas, ready.available_worker_replicas) == ("ready", 2, 2)
    assert {c.type: c.status for c in ready.conditions} == {HEAD_READY: "True", PROVISIONED: "True"}
    assert ready.head is not None
    assert (ready.head.pod_name, ready.head.pod_ip) == ("c-head", HEAD_IP)
    cluster.status = ready
    lost = next_status(observe(cluster, [the_head(ready=False), worker(0)], RAY), NOW)
    # It was provisioned once, and stays so: what is lost shows in the other condition and in the counts.
    assert {c.type: c.status for c in lost.conditions} == {HEAD_READY: "False", PROVISIONED: "True"}
    assert lost.ready_worker_replicas == 1


def test_the_time_of_the_last_change_moves_with_changes_only() -> None:
    cluster = make_cluster()
    first = next_status(observe(cluster, [the_head()], RAY), NOW)
    assert first.last_update_time == "2026-01-01T00:05:00Z"
    cluster.status = first
    again = next_status(observe(cluster, [the_head()], RAY), NOW.replace(minute=9))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(first)
