"""Workloads that ask for the sidecar, in every shape that they may have."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pybrix.api.sidecar import ADAPTERS_PATH, CONTAINER, INJECTION, RUNTIME_IMAGE, VOLUME

IMAGES = (
    "vllm/vllm-openai:v0.9",
    "lmsysorg/sglang",
    "ghcr.io/huggingface/tgi:3",
    "ghcr.io/ggml-org/llama.cpp:server",
    "nvcr.io/tritonserver",
    "busybox",
)


def engine(name: str = "engine", image: str = IMAGES[0], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def pod_template(*containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "chat", **(labels or {})}},
        "spec": {"containers": list(containers or (engine(),)), **spec},
    }


def annotated(annotations: dict[str, str]) -> dict[str, Any]:
    return {"name": "chat", **({"annotations": annotations} if annotations else {})}


def deployment(
    template: dict[str, Any] | None = None, *, asks: str | None = "true", annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return a Deployment; None as `asks` leaves the annotation away."""
    asked = {} if asks is None else {INJECTION: asks}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": annotated({**asked, **(annotations or {})}),
        "spec": {"selector": {"matchLabels": {"app": "chat"}}, "template": template or pod_template()},
    }


def storm_service(
    *roles: dict[str, Any], asks: str | None = "true", annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return a StormService with a role for each template."""
    asked = {} if asks is None else {INJECTION: asks}
    named = [{"name": f"role-{n}", "template": template} for n, template in enumerate(roles or (pod_template(),))]
    return {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "StormService",
        "metadata": annotated({**asked, **(annotations or {})}),
        "spec": {
            "selector": {"matchLabels": {"app": "chat"}},
            "template": {"metadata": {"labels": {"app": "chat"}}, "spec": {"roles": named}},
        },
    }


@st.composite
def templates(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a pod template: some containers, with or without what an injection adds."""
    names = draw(st.lists(st.sampled_from(["engine", "proxy", "log", CONTAINER]), min_size=1, max_size=4, unique=True))
    volumes = draw(st.sampled_from([None, [], ["data"], [VOLUME], ["data", VOLUME]]))
    spec: dict[str, Any] = {}
    if volumes is not None:
        spec["volumes"] = [{"name": name, "emptyDir": {}} for name in volumes]
    containers = []
    for name in names:
        one = engine(name, draw(st.sampled_from(IMAGES)))
        paths = draw(st.sampled_from([None, [], ["/data"], [ADAPTERS_PATH], ["/data", ADAPTERS_PATH]]))
        # What mounts a volume must have one.
        if paths is not None and (not paths or volumes):
            one["volumeMounts"] = [{"name": (volumes or [""])[0], "mountPath": path} for path in paths]
        containers.append(one)
    if draw(st.integers(0, 5)) == 0:
        spec["initContainers"] = [engine(draw(st.sampled_from(["prepare", CONTAINER])))]
        containers = [c for c in containers if c["name"] != CONTAINER] or [engine()]
    labels = draw(st.sampled_from([{}, {"model.aibrix.ai/port": "9000"}, {"model.aibrix.ai/engine": "sglang"}]))
    return pod_template(*containers, labels=labels, **spec)


@st.composite
def workloads(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a Deployment or a StormService that asks, perhaps."""
    asks = draw(st.sampled_from(["true", "true", "true", "false", "", "yes", None]))
    more: dict[str, str] = draw(
        st.sampled_from(
            [
                {},
                {"model.aibrix.ai/engine": "trtllm"},
                {RUNTIME_IMAGE: "registry.example.com/pybrix:2"},
                {RUNTIME_IMAGE: "aibrix/runtime:v0.5.0"},
                {RUNTIME_IMAGE: ""},
            ]
        )
    )
    if draw(st.booleans()):
        return deployment(draw(templates()), asks=asks, annotations=more)
    return storm_service(*draw(st.lists(templates(), min_size=1, max_size=3)), asks=asks, annotations=more)
