"""What the pods of all components have in common: security, service account tokens, placement. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.install.names import selector
from pybrix.install.template import Each, If, Item, Spread, Template, Value

USER_ID = 65532
"""The user of the image, as `Containerfile` makes it."""
TOKEN_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_VOLUME = "kube-api-access"
TOKEN_LIFETIME_S = 3607


def pod_security(user_id: int = USER_ID) -> dict[str, Any]:
    """Return the security context of a pod, as the restricted Pod Security Standard wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user_id,
        "runAsGroup": user_id,
        # Secrets in volumes are readable for this group.
        "fsGroup": user_id,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def token_volume() -> dict[str, Any]:
    """Return what Kubernetes mounts by itself into every container; as a volume only those get it that need it."""
    return {
        "name": TOKEN_VOLUME,
        "projected": {
            "defaultMode": 0o440,
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_LIFETIME_S}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ],
        },
    }


def token_mount() -> dict[str, Any]:
    return {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": True}


def pull_settings() -> dict[str, Template]:
    """Return the pod's part that says how its image is pulled."""
    names = Value("image.pullSecrets")
    return {"imagePullSecrets": If(names, [Each(names, "secret", [{"name": Item("secret")}])])}


def placement(values: str, component: str) -> dict[str, Template]:
    """Return where the pods of a component run: apart from each other, as far as there are nodes.

    Args:
        values: path of the component's values.
    """
    return {
        "priorityClassName": If(Value(f"{values}.priorityClassName"), Value(f"{values}.priorityClassName")),
        "nodeSelector": If(Value(f"{values}.nodeSelector"), Value(f"{values}.nodeSelector")),
        "tolerations": If(Value(f"{values}.tolerations"), Value(f"{values}.tolerations")),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(component)},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
    }


def pod_annotations(values: str, **own: Template) -> dict[Any, Template]:
    """Return the annotations of a component's pods: the hash of its configuration and those of the values."""
    return {**own, Spread(Value(f"{values}.podAnnotations")): {}}
