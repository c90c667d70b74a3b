"""The workloads that `pybrix up` brings: Deployments and Services as a user would write them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pybrix.api.apps import Deployment, DeploymentSpec
from pybrix.api.core import Service, ServicePort, ServiceSpec
from pybrix.api.meta import LabelSelector, ObjectMeta
from pybrix.api.names import MODEL_ENGINE, MODEL_NAME, MODEL_PORT

SIMULATED_MODEL = "simulated"
_PORT = 8000
_DRAIN_DEADLINE_S = 25
_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Workload:
    """A model as a Deployment of engine pods, and the Service in front of them."""

    model: str
    deployment: Deployment
    service: Service


def simulated(replicas: int) -> Workload:
    """Return simulated engines that answer to the model name `simulated`."""
    return _workload(
        SIMULATED_MODEL,
        replicas,
        engine="vllm",
        container={
            "image": "pybrix/simulator",
            "args": ["--model", SIMULATED_MODEL, "--port", str(_PORT)],
        },
    )


def llamacpp(model: str, model_file: str) -> Workload:
    """Return one llama.cpp engine that serves a GGUF file under a model name."""
    return _workload(
        model,
        1,
        engine="llamacpp",
        container={
            "image": "pybrix/llamacpp",
            "args": ["--model", model_file, "--served-model-name", model, "--port", str(_PORT)],
        },
    )


def _workload(model: str, replicas: int, *, engine: str, container: dict[str, Any]) -> Workload:
    labels = {MODEL_NAME: model, MODEL_PORT: str(_PORT), MODEL_ENGINE: engine}
    # The shell reads POD_IP: exec handlers see the container's environment, and Kubernetes expands nothing in them.
    drain = f"pybrix sidecar drain --url http://$POD_IP:{_PORT} --engine {engine} --deadline-s {_DRAIN_DEADLINE_S}"
    deployment = Deployment(
        metadata=ObjectMeta(name=model, namespace="default", labels=labels),
        spec=DeploymentSpec(
            replicas=replicas,
            selector=LabelSelector(match_labels={MODEL_NAME: model}),
            template={
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": _GRACE_S,
                    "containers": [
                        {
                            "name": "engine",
                            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "ports": [{"name": "http", "containerPort": _PORT}],
                            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
                            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", drain]}}},
                            **container,
                        }
                    ],
                },
            },
        ),
    )
    service = Service(
        metadata=ObjectMeta(name=model, namespace="default", labels=labels),
        spec=ServiceSpec(
            selector={MODEL_NAME: model},
            ports=[ServicePort(name="http", port=_PORT, target_port="http")],
        ),
    )
    return Workload(model, deployment, service)
