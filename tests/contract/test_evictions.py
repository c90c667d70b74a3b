"""Evictions and disruption budgets.

https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from typing import Any

from tests.support.contract import Answer, Api, pod

POLICY = {"group": "policy"}


async def make_pod(api: Api, name: str, *, is_ready: bool = True, phase: str = "Running") -> None:
    await api.ready()
    body = pod(name, terminationGracePeriodSeconds=0)
    body["metadata"]["labels"] = {"app": "web"}
    assert (await api.create(api.at("pods"), body)).code == 201
    ready = {"type": "Ready", "status": "True" if is_ready else "False"}
    await api.patch(api.at("pods", name, "status"), {"status": {"phase": phase, "conditions": [ready]}})


async def make_budget(api: Api, name: str = "budget", *, allowed: int | None = None, **spec: Any) -> None:
    """Make a budget and wait until `allowed` disruptions are; None: until it has been looked at."""
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}}
    body["spec"] = {"selector": {"matchLabels": {"app": "web"}}, **spec}
    assert (await api.create(api.at("poddisruptionbudgets", **POLICY), body)).code == 201

    async def is_counted() -> bool:
        status = (await api.get(api.at("poddisruptionbudgets", name, **POLICY))).body.get("status", {})
        return status.get("observedGeneration") == 1 and allowed in (None, status.get("disruptionsAllowed"))

    await api.until(is_counted)


async def evict(api: Api, name: str, **options: Any) -> Answer:
    body: dict[str, Any] = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    if options:
        body["deleteOptions"] = options
    return await api.create(api.at("pods", name, "eviction"), body)


async def exists(api: Api, name: str) -> bool:
    found = await api.get(api.at("pods", name))
    return found.code == 200 and "deletionTimestamp" not in found.body["metadata"]


async def test_pod_without_a_budget_is_deleted(api: Api) -> None:
    await make_pod(api, "a")
    evicted = await evict(api, "a")
    assert (evicted.code, evicted.body["status"]) == (201, "Success")
    assert not await exists(api, "a")


async def test_missing_pod_is_not_found(api: Api) -> None:
    assert (await evict(api, "none")).code == 404


async def test_name_of_the_eviction_is_that_of_the_pod(api: Api) -> None:
    await make_pod(api, "a")
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "b"}}
    assert (await api.create(api.at("pods", "a", "eviction"), body)).code == 400
    assert await exists(api, "a")


async def test_preconditions_hold(api: Api) -> None:
    await make_pod(api, "a")
    assert (await evict(api, "a", preconditions={"uid": "another"})).code == 409
    assert await exists(api, "a")


async def test_dry_run_evicts_nothing(api: Api) -> None:
    await make_pod(api, "a")
    assert (await evict(api, "a", dryRun=["All"])).code == 201
    assert await exists(api, "a")


async def test_exhausted_budget_refuses_and_says_why(api: Api) -> None:
    # #how-api-initiated-eviction-works
    await make_pod(api, "a")
    await make_budget(api, minAvailable=1, allowed=0)
    refused = await evict(api, "a")
    assert (refused.code, refused.reason) == (429, "TooManyRequests")
    assert refused.body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    (cause,) = refused.body["details"]["causes"]
    assert cause["reason"] == "DisruptionBudget"
    assert "needs 1 healthy pods and has 1 currently" in cause["message"]
    assert await exists(api, "a")


async def test_budget_allows_what_is_left_and_no_more(api: Api) -> None:
    for name in "abc":
        await make_pod(api, name)
    await make_budget(api, minAvailable=2, allowed=1)
    codes = [(await evict(api, name)).code for name in "abc"]
    assert codes == [201, 429, 429]


async def test_pod_that_never_ran_is_not_protected(api: Api) -> None:
    await make_pod(api, "a", is_ready=False, phase="Pending")
    await make_budget(api, minAvailable=1, allowed=0)
    assert (await evict(api, "a")).code == 201


async def test_unhealthy_pod_goes_when_the_policy_says_so(api: Api) -> None:
    # /docs/tasks/run-application/configure-pdb/#unhealthy-pod-eviction-policy
    await make_pod(api, "a", is_ready=False)
    await make_budget(api, minAvailable=1, allowed=0)
    assert (await evict(api, "a")).code == 429
    path = api.at("poddisruptionbudgets", "budget", **POLICY)
    await api.patch(path, {"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}})
    assert (await evict(api, "a")).code == 201


async def test_two_budgets_for_a_pod_are_a_mistake(api: Api) -> None:
    await make_pod(api, "a")
    await make_budget(api, "one", minAvailable=0)
    await make_budget(api, "two", minAvailable=0)
    refused = await evict(api, "a")
    assert refused.code == 500
    assert "more than one PodDisruptionBudget" in refused.body["message"]


async def test_deletion_asks_no_budget(api: Api) -> None:
    # /docs/concepts/workloads/pods/disruptions/: budgets are about evictions
    await make_pod(api, "a")
    await make_budget(api, minAvailable=1, allowed=0)
    assert (await api.delete(api.at("pods", "a"))).code == 200
