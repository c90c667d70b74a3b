"""All workload controllers together on the embedded API server; only the kubelet is played."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import EndpointSlice, Event, Namespace, Pod, Service
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import find_condition
from pybrix.cluster.workloads.deployment.revisions import new_name
from pybrix.cluster.workloads.eventexpiry.controller import EventExpiry
from tests.support.clocks import FakeClock
from tests.support.running_workloads import Cluster, running_workloads
from tests.support.workloads import LABELS, make_template

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "gadgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_workloads(tmp_path) as running:
        yield running


def deployment(replicas: int = 3, image: str = "v1", name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": make_template(image), **spec},
    }


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8000}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": LABELS, "ports": ports, **spec},
    }


def is_rolled_out(cluster: Cluster, name: str = "web") -> bool:
    """Say what `kubectl rollout status` says."""
    d = cluster.get(Deployment, name)
    if d is None or d.status.observed_generation < d.metadata.generation:
        return False
    wanted = d.spec.replicas
    return d.status.updated_replicas == d.status.replicas == d.status.available_replicas == wanted


def images(cluster: Cluster) -> list[str]:
    return sorted(p.spec.containers[0].image for p in cluster.list(Pod) if not p.metadata.is_terminating)


def progressing(cluster: Cluster) -> tuple[str, str]:
    d = cluster.get(Deployment, "web")
    condition = find_condition(d.status.conditions, "Progressing") if d is not None else None
    return (condition.status, condition.reason) if condition is not None else ("", "")


def ready_addresses(cluster: Cluster) -> set[str]:
    slices = cluster.list(EndpointSlice, **{names.SERVICE_NAME: "web"})
    return {e.addresses[0] for s in slices for e in s.endpoints if e.conditions.ready}


async def test_a_deployment_becomes_pods_and_endpoints_and_then_nothing_moves(cluster: Cluster) -> None:
    cluster.create(service())
    cluster.create(deployment(3))
    await cluster.until(lambda: is_rolled_out(cluster) and len(ready_addresses(cluster)) == 3)
    (replica_set,) = cluster.list(ReplicaSet)
    web = cluster.get(Deployment, "web")
    assert web is not None
    assert replica_set.metadata.name == new_name(web)[0]
    pods = cluster.list(Pod)
    assert all(p.metadata.name.startswith(f"{replica_set.metadata.name}-") for p in pods)
    assert all(p.metadata.generate_name == f"{replica_set.metadata.name}-" for p in pods)
    assert ready_addresses(cluster) == {p.status.pod_ip for p in pods}
    assert web.metadata.annotations[names.DEPLOYMENT_REVISION] == "1"
    await cluster.until(lambda: progressing(cluster) == ("True", "NewReplicaSetAvailable"))
    told = {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"}
    await cluster.until(lambda: told <= {e.reason for e in cluster.list(Event)})
    await cluster.revisions_within(0.5)
    assert await cluster.revisions_within(0.5) == 0


async def test_a_rolling_update_never_leaves_its_limits(cluster: Cluster) -> None:
    cluster.create(service())
    cluster.create(deployment(8))
    await cluster.until(lambda: is_rolled_out(cluster) and len(ready_addresses(cluster)) == 8)

    def check() -> None:
        pods = [p for p in cluster.list(Pod) if not p.metadata.is_terminating]
        assert len(pods) <= 8 + 2
        assert sum(p.is_ready for p in pods) >= 8 - 2

    cluster.patch(Deployment, "web", {"spec": {"template": make_template("v2")}})
    await cluster.until(lambda: is_rolled_out(cluster) and images(cluster) == ["v2"] * 8, always=check)
    await cluster.until(lambda: ready_addresses(cluster) == {p.status.pod_ip for p in cluster.list(Pod)})
    assert sorted(s.spec.replicas or 0 for s in cluster.list(ReplicaSet)) == [0, 8]


async def test_kubectl_scales_and_rolls_out_and_back(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    cluster.create(deployment(2))
    assert "successfully rolled out" in await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    await kubectl("scale", "deployment/web", "--replicas=5")
    await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert len(images(cluster)) == 5
    await kubectl("set", "image", "deployment/web", "main=v2")
    await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert images(cluster) == ["v2"] * 5
    assert "REVISION" in (history := await kubectl("rollout", "history", "deployment/web"))
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    await kubectl("rollout", "undo", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert images(cluster) == ["v1"] * 5
    before = {p.uid for p in cluster.list(Pod)}
    await kubectl("rollout", "restart", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert not before & {p.uid for p in cluster.list(Pod)}
    await kubectl("rollout", "pause", "deployment/web")
    await kubectl("set", "image", "deployment/web", "main=v3")
    await cluster.until(lambda: progressing(cluster) == ("Unknown", "DeploymentPaused"))
    assert "v3" not in images(cluster)
    await kubectl("rollout", "resume", "deployment/web")
    await kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert images(cluster) == ["v3"] * 5
    described = await kubectl("describe", "deployment", "web")
    assert "NewReplicaSetAvailable" in described
    assert "Scaled up replica set" in described


async def test_a_rollout_that_gets_nowhere_is_told_by_time_alone(cluster: Cluster) -> None:
    cluster.create(deployment(3, progressDeadlineSeconds=1))
    await cluster.until(lambda: is_rolled_out(cluster))
    cluster.broken_images.add("broken")
    cluster.patch(Deployment, "web", {"spec": {"template": make_template("broken")}})
    await cluster.until(lambda: progressing(cluster) == ("False", "ProgressDeadlineExceeded"))
    assert images(cluster).count("v1") == 3
    cluster.patch(Deployment, "web", {"spec": {"template": make_template("v1")}})
    await cluster.until(lambda: is_rolled_out(cluster) and progressing(cluster) == ("True", "NewReplicaSetAvailable"))
    assert images(cluster) == ["v1"] * 3


async def test_min_ready_seconds_pass_by_themselves(cluster: Cluster) -> None:
    cluster.create(deployment(2, minReadySeconds=1))
    await cluster.until(lambda: any(s.status.ready_replicas == 2 for s in cluster.list(ReplicaSet)))
    web = cluster.get(Deployment, "web")
    assert web is not None
    assert web.status.available_replicas == 0
    await cluster.until(lambda: is_rolled_out(cluster))


async def test_recreate_waits_until_the_old_pods_are_gone(cluster: Cluster) -> None:
    cluster.create(deployment(2, strategy={"type": "Recreate"}))
    await cluster.until(lambda: is_rolled_out(cluster))
    cluster.holds_pods = True
    cluster.patch(Deployment, "web", {"spec": {"template": make_template("v2")}})
    await cluster.until(lambda: all(p.metadata.is_terminating for p in cluster.list(Pod)))
    await cluster.until(lambda: all(not s.status.replicas for s in cluster.list(ReplicaSet)))
    assert len(cluster.list(ReplicaSet)) == 1
    cluster.holds_pods = False
    for pod in cluster.list(Pod):
        cluster.delete(Pod, pod.metadata.name, grace_period_seconds=0)
    await cluster.until(lambda: is_rolled_out(cluster) and images(cluster) == ["v2"] * 2)


async def test_a_deleted_pod_is_replaced_and_a_relabelled_one_is_let_go(cluster: Cluster) -> None:
    cluster.create(deployment(2))
    await cluster.until(lambda: is_rolled_out(cluster))
    first, second = cluster.list(Pod)
    cluster.delete(Pod, first.metadata.name)
    cluster.patch(Pod, second.metadata.name, {"metadata": {"labels": {"app": "debug"}}})
    await cluster.until(lambda: len({p.uid for p in cluster.list(Pod, app="web")} - {first.uid, second.uid}) == 2)
    await cluster.until(lambda: not cluster.list(Pod, app="debug")[0].metadata.owner_references)
    cluster.patch(Pod, second.metadata.name, {"metadata": {"labels": {"app": "web"}}})
    # Adopted again, so there is one too many: the two that are left are the ReplicaSet's.
    await cluster.until(lambda: len(cluster.list(Pod)) == 2 and is_rolled_out(cluster))
    assert all(p.metadata.controller is not None for p in cluster.list(Pod))


async def test_a_name_that_is_taken_is_a_collision_and_another_name_is_found(cluster: Cluster) -> None:
    taken = new_name(Deployment.from_dict(cluster.objects.create("deployments.apps", _namespaced(deployment(0)))))[0]
    await cluster.until(lambda: cluster.list(ReplicaSet))
    cluster.delete(Deployment, "web")
    await cluster.until(lambda: not cluster.list(ReplicaSet))
    stranger = {"app": "stranger"}
    template = make_template("v9", stranger)
    spec = {"replicas": 0, "selector": {"matchLabels": stranger}, "template": template}
    cluster.create({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": taken}, "spec": spec})
    cluster.create(deployment(1))
    await cluster.until(lambda: is_rolled_out(cluster))
    web = cluster.get(Deployment, "web")
    assert web is not None
    assert web.status.collision_count == 1
    assert {s.metadata.name for s in cluster.list(ReplicaSet)} == {taken, new_name(web)[0]}


def _namespaced(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest["metadata"]["namespace"] = "default"
    return manifest


async def test_deleting_a_deployment_takes_all_of_it(cluster: Cluster) -> None:
    cluster.create(deployment(3))
    cluster.create(service())
    await cluster.until(lambda: is_rolled_out(cluster) and len(ready_addresses(cluster)) == 3)
    await cluster.kubectl("delete", "deployment", "web")
    await cluster.until(lambda: not cluster.list(ReplicaSet) and not cluster.list(Pod))
    await cluster.until(lambda: ready_addresses(cluster) == set())
    cluster.delete(Service, "web")
    await cluster.until(lambda: not cluster.list(EndpointSlice, **{names.SERVICE_NAME: "web"}))


async def test_foreground_deletion_removes_the_owner_last(cluster: Cluster) -> None:
    cluster.create(deployment(2))
    await cluster.until(lambda: is_rolled_out(cluster))
    cluster.holds_pods = True
    cluster.delete(Deployment, "web", propagation="Foreground")
    await cluster.until(lambda: all(p.metadata.is_terminating for p in cluster.list(Pod)))
    assert cluster.get(Deployment, "web") is not None
    assert len(cluster.list(ReplicaSet)) == 1
    cluster.holds_pods = False
    for pod in cluster.list(Pod):
        cluster.delete(Pod, pod.metadata.name, grace_period_seconds=0)
    await cluster.until(lambda: cluster.get(Deployment, "web") is None)
    assert cluster.list(ReplicaSet) == []
    assert cluster.list(Pod) == []


async def test_orphans_stay_and_are_adopted_by_the_next_of_the_same_template(cluster: Cluster) -> None:
    cluster.create(deployment(2))
    await cluster.until(lambda: is_rolled_out(cluster))
    before = {p.uid for p in cluster.list(Pod)}
    await cluster.kubectl("delete", "deployment", "web", "--cascade=orphan")
    await cluster.until(lambda: cluster.get(Deployment, "web") is None)
    assert cluster.list(ReplicaSet)[0].metadata.owner_references == []
    cluster.create(deployment(2))
    await cluster.until(lambda: is_rolled_out(cluster))
    assert {p.uid for p in cluster.list(Pod)} == before
    assert len(cluster.list(ReplicaSet)) == 1


async def test_garbage_of_custom_resources_is_found_after_a_restart(cluster: Cluster) -> None:
    cluster.objects.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
    gadgets = "gadgets.example.com"

    def gadget(name: str, *owners: dict[str, Any]) -> dict[str, Any]:
        references = [
            {
                "apiVersion": "example.com/v1",
                "kind": "Gadget",
                "name": o["metadata"]["name"],
                "uid": o["metadata"]["uid"],
            }
            for o in owners
        ]
        metadata = {"name": name, "ownerReferences": references}
        return cluster.create({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": metadata}, gadgets)

    owner, other = gadget("owner"), gadget("other")
    gadget("child", owner)
    gadget("shared", owner, other)
    pod = {"name": "pod", "namespace": "default", "ownerReferences": []}
    pod["ownerReferences"] = gadget("second", owner)["metadata"]["ownerReferences"]
    cluster.objects.create(
        "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": make_template()["spec"]}
    )
    await cluster.stop_workloads()
    cluster.objects.delete(gadgets, ObjectKey("default", "owner"))
    gadget("owner")
    await cluster.start_workloads()
    await cluster.until(lambda: [s.key.name for s in cluster.store.list(gadgets)] == ["other", "owner", "shared"])
    await cluster.until(lambda: not cluster.list(Pod))
    shared = cluster.objects.get(gadgets, ObjectKey("default", "shared"))
    assert [r["name"] for r in shared["metadata"]["ownerReferences"]] == ["other"]


async def test_a_namespace_goes_with_everything_in_it(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    cluster.objects.create("customresourcedefinitions.apiextensions.k8s.io", CRD)
    cluster.objects.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    inside = {**deployment(3), "metadata": {"name": "web", "namespace": "team"}}
    cluster.objects.create("deployments.apps", inside)
    held = {"name": "held", "namespace": "team", "finalizers": ["example.com/hold"]}
    gadgets = "gadgets.example.com"
    cluster.objects.create(gadgets, {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": held})
    await cluster.until(lambda: sum(p.is_ready for p in cluster.list(Pod, "team")) == 3)
    await kubectl("delete", "namespace", "team", "--wait=false")
    await cluster.until(lambda: not cluster.list(Pod, "team") and not cluster.list(ReplicaSet, "team"))
    team = cluster.get(Namespace, "team")
    assert team is not None
    told = {c["type"]: c["message"] for c in team.status["conditions"]}
    assert "example.com/hold in 1 resource instances" in told["NamespaceFinalizersRemaining"]
    cluster.objects.patch(gadgets, ObjectKey("team", "held"), {"metadata": {"finalizers": None}})
    await cluster.until(lambda: cluster.get(Namespace, "team") is None)
    assert [s.resource for s in cluster.store.iterate() if s.key.namespace == "team"] == []


async def test_a_pod_that_fits_nowhere_says_why_and_is_bound_when_it_fits(cluster: Cluster) -> None:
    template = make_template()
    template["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "20"}}
    cluster.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "big", "labels": LABELS}, "spec": template["spec"]}
    )

    def scheduled() -> tuple[str, str]:
        pod = cluster.get(Pod, "big")
        condition = find_condition(pod.status.conditions, "PodScheduled") if pod is not None else None
        return (condition.status, condition.message) if condition is not None else ("", "")

    await cluster.until(lambda: scheduled() == ("False", "0/1 nodes are available: 1 Insufficient cpu."))
    await cluster.until(lambda: any(e.reason == "FailedScheduling" for e in cluster.list(Event)))
    assert await cluster.revisions_within(0.3) == 0
    cluster.add_node("big-node", cpu="32")
    await cluster.until(lambda: (p := cluster.get(Pod, "big")) is not None and p.spec.node_name == "big-node")
    await cluster.until(lambda: scheduled()[0] == "True")


async def test_controllers_go_on_where_they_stopped(cluster: Cluster) -> None:
    cluster.create(deployment(4))
    await cluster.until(lambda: cluster.list(Pod))
    for image in ("v2", "v3"):
        await cluster.stop_workloads()
        cluster.patch(Deployment, "web", {"spec": {"template": make_template(image)}})
        await cluster.start_workloads()
        await cluster.until(lambda: image in images(cluster))  # noqa: B023
    await cluster.until(lambda: is_rolled_out(cluster) and images(cluster) == ["v3"] * 4)
    assert len(cluster.list(ReplicaSet)) <= 3


async def test_many_replicas_are_made_once_each(cluster: Cluster) -> None:
    cluster.create(deployment(60))
    await cluster.until(lambda: is_rolled_out(cluster))
    assert len(cluster.list(Pod)) == 60
    sizes = random.Random(2).sample(range(60), 4)
    for size in [*sizes, 7]:
        cluster.patch(Deployment, "web", {"spec": {"replicas": size}})
    await cluster.until(lambda: is_rolled_out(cluster) and len(cluster.list(Pod)) == 7)


async def test_events_last_an_hour(cluster: Cluster) -> None:
    cluster.create(deployment(1))
    await cluster.until(lambda: is_rolled_out(cluster) and cluster.list(Event))
    await cluster.stop_workloads()
    clock = FakeClock()
    worker = EventExpiry(cluster.store, cluster.objects, clock)
    # The clock of 2026-01-01 is in the past of these Events: nothing is over.
    assert worker.work("events") is not None
    assert cluster.list(Event)
    clock.advance(20 * 365 * 24 * 3600)
    worker.work("events")
    assert cluster.list(Event) == []
    await cluster.start_workloads()
