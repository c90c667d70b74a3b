"""The sidecar that an annotation asks for: who asks, what is added, and what stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from pybrix.api.names import MODEL_ENGINE
from pybrix.api.sidecar import (
    ADAPTERS_PATH,
    CONTAINER,
    DEFAULT_IMAGE,
    INJECTION,
    RUNTIME_IMAGE,
    VOLUME,
    asks_for_sidecar,
    injected,
    insertions,
    lacks_sidecar,
    templates,
)
from tests.support.injections import deployment, engine, pod_template, storm_service, workloads


def containers(obj: dict[str, Any]) -> list[dict[str, Any]]:
    (_, template), *_ = templates(obj)
    found: list[dict[str, Any]] = template["spec"]["containers"]
    return found


def environment(obj: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value") for e in containers(obj)[0]["env"]}


@pytest.mark.parametrize(
    ("obj", "want"),
    [
        (deployment(), True),
        (deployment(asks="false"), False),
        (deployment(asks="TRUE"), False),
        (deployment(asks=""), False),
        (deployment(asks=None), False),
        (storm_service(), True),
        (storm_service(asks=""), True),
        (storm_service(asks="yes"), True),
        (storm_service(asks="false"), False),
        (storm_service(asks=None), False),
        ({**deployment(), "kind": "StatefulSet"}, False),
        ({**deployment(), "apiVersion": "v1"}, False),
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, False),
        ({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"annotations": {INJECTION: True}}}, False),
        ({}, False),
    ],
)
def test_who_asks(obj: dict[str, Any], want: bool) -> None:
    assert asks_for_sidecar(obj) is want
    assert (injected(obj) == obj) is not want


def test_container_is_the_one_that_aibrix_looks_for() -> None:
    first, second = containers(injected(deployment()))
    assert (first["name"], second["name"]) == (CONTAINER, "engine")
    assert first["image"] == DEFAULT_IMAGE
    assert first["command"] == ["pybrix", "sidecar", "run", "--port", "8080"]
    assert first["ports"] == [{"name": "metrics", "containerPort": 8080, "protocol": "TCP"}]
    assert (first["livenessProbe"]["httpGet"]["path"], first["readinessProbe"]["httpGet"]["path"]) == (
        "/healthz",
        "/ready",
    )
    assert first["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}
    assert environment(injected(deployment())) == {
        "POD_IP": None,
        "INFERENCE_ENGINE": "vllm",
        "INFERENCE_ENGINE_ENDPOINT": "http://$(POD_IP):8000",
    }


def test_volume_is_mounted_in_every_container() -> None:
    template = pod_template(engine(), engine("proxy", "envoy", volumeMounts=[{"name": "tls", "mountPath": "/tls"}]))
    built = injected(deployment(template))
    assert built["spec"]["template"]["spec"]["volumes"] == [{"name": VOLUME, "emptyDir": {}}]
    paths = [[m["mountPath"] for m in c["volumeMounts"]] for c in containers(built)]
    assert paths == [[ADAPTERS_PATH], [ADAPTERS_PATH], ["/tls", ADAPTERS_PATH]]


def test_volumes_and_mounts_of_a_user_stay() -> None:
    mine = {"name": VOLUME, "persistentVolumeClaim": {"claimName": "adapters"}}
    elsewhere = {"name": "other", "mountPath": ADAPTERS_PATH}
    template = pod_template(engine(volumeMounts=[elsewhere]), volumes=[{"name": "other", "emptyDir": {}}, mine])
    built = injected(deployment(template))
    assert built["spec"]["template"]["spec"]["volumes"] == [{"name": "other", "emptyDir": {}}, mine]
    assert containers(built)[1]["volumeMounts"] == [elsewhere]


@pytest.mark.parametrize(
    ("obj", "want"),
    [
        (deployment(pod_template(engine(image="lmsysorg/sglang:v0.5"))), "sglang"),
        (deployment(pod_template(engine(image="ghcr.io/ggml-org/llama.cpp:server"))), "llamacpp"),
        (deployment(pod_template(engine(image="nginx"), engine("e", "x/vllm"))), "vllm"),
        (deployment(pod_template(engine(image="nginx"))), "unknown"),
        (deployment(pod_template(labels={"model.aibrix.ai/engine": "sglang"})), "sglang"),
        (
            deployment(pod_template(labels={MODEL_ENGINE: "sglang"}), annotations={MODEL_ENGINE: "trtllm"}),
            "trtllm",
        ),
    ],
)
def test_engine(obj: dict[str, Any], want: str) -> None:
    assert environment(injected(obj))["INFERENCE_ENGINE"] == want


def test_port_is_the_engine_s() -> None:
    built = injected(deployment(pod_template(labels={"model.aibrix.ai/port": "9000"})))
    assert environment(built)["INFERENCE_ENGINE_ENDPOINT"] == "http://$(POD_IP):9000"


@pytest.mark.parametrize(
    ("image", "program"),
    [
        ("registry.example.com:5000/pybrix:2", "pybrix"),
        ("aibrix/runtime:v0.5.0", "aibrix_runtime"),
        ("registry.example.com/aibrix/runtime@sha256:abc", "aibrix_runtime"),
        ("example/aibrix/runtimes", "pybrix"),
    ],
)
def test_image_of_the_annotation_gets_its_own_program(image: str, program: str) -> None:
    sidecar = containers(injected(deployment(annotations={RUNTIME_IMAGE: image})))[0]
    assert (sidecar["image"], sidecar["command"][0]) == (image, program)


def test_every_role_gets_one() -> None:
    has = pod_template(engine(), engine(CONTAINER, "mine"))
    built = injected(storm_service(pod_template(), has, pod_template()))
    roles = [r["template"]["spec"]["containers"] for r in built["spec"]["template"]["spec"]["roles"]]
    assert [[c["name"] for c in r] for r in roles] == [
        [CONTAINER, "engine"],
        ["engine", CONTAINER],
        [CONTAINER, "engine"],
    ]
    assert roles[1] == has["spec"]["containers"]


def test_init_container_that_stays_counts() -> None:
    native = pod_template(engine(), initContainers=[engine(CONTAINER, restartPolicy="Always")])
    assert injected(deployment(native)) == deployment(native)


@pytest.mark.parametrize(
    "spec",
    [None, 7, [], {}, {"template": None}, {"template": {"spec": []}}, {"template": {"spec": {"containers": {}}}}],
)
def test_malformed_objects_are_left_alone(spec: Any) -> None:
    for obj in (deployment(), storm_service()):
        broken = {**obj, "spec": spec}
        assert injected(broken) == broken
        assert not lacks_sidecar(broken)


@given(obj=workloads())
def test_twice_is_once(obj: dict[str, Any]) -> None:
    before = copy.deepcopy(obj)
    once = injected(obj)
    assert obj == before
    assert injected(once) == once
    assert insertions(once) == []
    assert lacks_sidecar(obj) is (once != obj)
    assert not lacks_sidecar(once)
