"""The controllers: configuration, rights, Deployment. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.install.configuration import HEALTH_PORT, controllers_configuration
from pybrix.install.names import CONTROLLERS, image, metadata, pod_labels, selector
from pybrix.install.pods import (
    container_security,
    placement,
    pod_annotations,
    pod_security,
    pull_settings,
    token_mount,
    token_volume,
)
from pybrix.install.rbac import rights, role, service_account
from pybrix.install.template import Sha256, Template, Value
from pybrix.kube.permissions import Permission

_CONFIG_DIR = "/etc/pybrix"


def controllers(permissions: Iterable[Permission], lease_permissions: Iterable[Permission]) -> list[Template]:
    """Return every object of the controllers.

    Args:
        permissions: what they do in the namespaces that they work on.
        lease_permissions: what the election of the one that works takes, in the namespace of the installation.
    """
    return [
        service_account(CONTROLLERS),
        *rights(CONTROLLERS, permissions, Value("controllers.namespaces")),
        *role(f"{CONTROLLERS}-election", CONTROLLERS, lease_permissions),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(CONTROLLERS, CONTROLLERS),
            "data": {"controllers.yaml": controllers_configuration()},
        },
        _deployment(),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(CONTROLLERS, CONTROLLERS),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(CONTROLLERS)}},
        },
    ]


def _deployment() -> Template:
    container = {
        "name": "controllers",
        "image": image(),
        "imagePullPolicy": Value("image.pullPolicy"),
        "args": ["controllers", "run", "--config", f"{_CONFIG_DIR}/controllers.yaml"],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "initialDelaySeconds": 10,
            "periodSeconds": 20,
            "timeoutSeconds": 5,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 5, "timeoutSeconds": 5},
        "resources": Value("controllers.resources"),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG_DIR, "readOnly": True}, token_mount()],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(CONTROLLERS, CONTROLLERS),
        "spec": {
            "replicas": Value("controllers.replicas"),
            "selector": {"matchLabels": selector(CONTROLLERS)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": pod_labels(CONTROLLERS),
                    "annotations": pod_annotations(
                        "controllers", **{"pybrix.ai/configuration-hash": Sha256(controllers_configuration())}
                    ),
                },
                "spec": {
                    "serviceAccountName": CONTROLLERS,
                    "automountServiceAccountToken": False,
                    "securityContext": pod_security(),
                    **pull_settings(),
                    **placement("controllers", CONTROLLERS),
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": CONTROLLERS}}, token_volume()],
                },
            },
        },
    }
