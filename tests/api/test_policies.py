"""The rules on annotations: every expression compiles, and decides as it says."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.api.policies import render_policies
from pybrix.cluster.apiserver.structural.cel import compile_expression

POLICIES = {doc["metadata"]["name"]: doc for doc in render_policies() if doc["kind"] == "ValidatingAdmissionPolicy"}
KVCACHE = "annotations.kvcaches.orchestration.aibrix.ai"
AUTOSCALER = "annotations.podautoscalers.autoscaling.aibrix.ai"
FLEET = "annotations.rayclusterfleets.orchestration.aibrix.ai"
_BACKEND = "kvcache.orchestration.aibrix.ai/backend"
_MODE = "kvcache.orchestration.aibrix.ai/mode"
_HPKV = "hpkv.kvcache.orchestration.aibrix.ai/"
_SCALING = "autoscaling.aibrix.ai/"


def refusals(policy: str, metadata: dict[str, Any], object_spec: dict[str, Any] | None = None) -> list[str]:
    """Return the messages of the rules that an object with that metadata breaks."""
    spec = POLICIES[policy]["spec"]
    scope: dict[str, Any] = {"object": {"metadata": metadata, "spec": object_spec or {}}, "variables": {}}
    for variable in spec["variables"]:
        scope["variables"][variable["name"]] = compile_expression(variable["expression"], ("object",)).evaluate(
            {"object": scope["object"]}
        )
    return [
        rule["message"]
        for rule in spec["validations"]
        if not compile_expression(rule["expression"], ("object", "variables"), "bool").evaluate(scope)
    ]


def annotated(**annotations: str) -> dict[str, Any]:
    return {"name": "a", "annotations": annotations}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_object_without_annotations_passes(policy: str) -> None:
    assert refusals(policy, {"name": "a"}) == []
    assert refusals(policy, {"name": "a", "annotations": {"other.example.com/x": "y"}}) == []


@pytest.mark.parametrize(
    ("policy", "annotation", "value"),
    [
        *((KVCACHE, _BACKEND, value) for value in ("vineyard", "hpkv", "infinistore")),
        *((KVCACHE, _MODE, value) for value in ("distributed", "centralized", "vineyard")),
        (KVCACHE, f"{_HPKV}rdma-port", "18512"),
        (AUTOSCALER, f"{_SCALING}max-scale-up-rate", "1.5"),
        (AUTOSCALER, f"{_SCALING}scale-up-tolerance", "0"),
        (AUTOSCALER, f"{_SCALING}panic-threshold", "2e0"),
        *((AUTOSCALER, f"{_SCALING}scale-down-cooldown-window", value) for value in ("0", "300s", "1h30m", "1.5m")),
        (AUTOSCALER, f"{_SCALING}scale-to-zero", "true"),
        *((FLEET, "orchestration.pybrix.ai/drain-deadline-seconds", value) for value in ("0", "600", "999999999")),
    ],
)
def test_a_value_that_is_taken(policy: str, annotation: str, value: str) -> None:
    assert refusals(policy, annotated(**{annotation: value})) == []


@pytest.mark.parametrize(
    ("policy", "annotation", "value"),
    [
        (KVCACHE, _BACKEND, "vineyrad"),
        (KVCACHE, _MODE, "shared"),
        *((KVCACHE, f"{_HPKV}rdma-port", value) for value in ("", "0", "65536", "x", "9" * 30)),
        (KVCACHE, f"{_HPKV}block-count", "-1"),
        (KVCACHE, "infinistore.kvcache.orchestration.aibrix.ai/hint-gid-index", "seven"),
        *((AUTOSCALER, f"{_SCALING}max-scale-up-rate", value) for value in ("fast", "0.5", "-2", "")),
        (AUTOSCALER, f"{_SCALING}scale-down-tolerance", "-0.1"),
        *((AUTOSCALER, f"{_SCALING}scale-up-cooldown-window", value) for value in ("300", "5 minutes", "-1s")),
        (AUTOSCALER, f"{_SCALING}scale-to-zero", "maybe"),
        *((FLEET, "orchestration.pybrix.ai/drain-deadline-seconds", value) for value in ("soon", "-1", "1000000000")),
        (FLEET, "orchestration.pybrix.ai/repair-after-seconds", "5m"),
    ],
)
def test_a_value_that_is_refused_by_the_rule_that_names_it(policy: str, annotation: str, value: str) -> None:
    (message,) = refusals(policy, annotated(**{annotation: value}))
    assert message.startswith(f"metadata.annotations[{annotation}]: must be ")


def test_the_name_of_a_distributed_cache_leaves_room_for_its_pods() -> None:
    assert refusals(KVCACHE, {"name": "k" * 44, "annotations": {_BACKEND: "vineyard"}}) == []
    assert refusals(KVCACHE, {"name": "k" * 43, "annotations": {_BACKEND: "hpkv"}}) == []
    (message,) = refusals(KVCACHE, {"name": "k" * 44, "annotations": {_BACKEND: "hpkv"}})
    assert message.startswith("metadata.name")


@pytest.mark.parametrize(
    ("backend", "ports", "is_taken"),
    [
        ("hpkv", [{"port": 1}], True),
        ("hpkv", [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}], True),
        # Vineyard does not read them.
        ("vineyard", [{"port": 1}, {"port": 2}], True),
        ("hpkv", [{"port": 1}, {"port": 2, "name": "b"}], False),
        ("infinistore", [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}], False),
    ],
)
def test_ports_of_the_service_of_a_distributed_cache_have_names(
    backend: str, ports: list[dict[str, Any]], is_taken: bool
) -> None:
    metadata = {"name": "a", "annotations": {_BACKEND: backend}}
    messages = refusals(KVCACHE, metadata, {"service": {"ports": ports}})
    assert [message.split(":")[0] for message in messages] == ([] if is_taken else ["spec.service.ports"])


def test_every_policy_is_bound_and_denies() -> None:
    bindings = [doc for doc in render_policies() if doc["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert {binding["spec"]["policyName"] for binding in bindings} == set(POLICIES)
    assert all(binding["spec"]["validationActions"] == ["Deny"] for binding in bindings)
