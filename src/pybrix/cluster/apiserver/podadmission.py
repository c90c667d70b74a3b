"""What a server adds to a new pod that its manifest does not say: the account's token, its pull secrets, a priority.

Pure. https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#serviceaccount and `#priority`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Data = dict[str, Any]
ROOT_CA_CONFIGMAP = "kube-root-ca.crt"
"""The ConfigMap in every namespace by which pods trust the API server."""
DEFAULT_ACCOUNT = "default"
_MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_VOLUME_PREFIX = "kube-api-access-"
_TOKEN_LIFETIME_S = 3607


def account_name(pod: Mapping[str, Any]) -> str:
    """Return the service account that a pod runs as."""
    spec = pod.get("spec", {})
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT_ACCOUNT)


def use_account(pod: Data, account: Mapping[str, Any], suffix: str) -> None:
    """Let the containers reach the API as the account, and pull images as it says.

    Args:
        account: the ServiceAccount.
        suffix: makes the volume's name unique within the pod.
    """
    spec = pod.setdefault("spec", {})
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
    is_mounted = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
    containers = [c for group in ("initContainers", "containers") for c in spec.get(group, ())]
    # A container that mounts something of its own there keeps it.
    needing = [
        c
        for c in containers
        if all(m.get("mountPath", "").rstrip("/") != _MOUNT_PATH for m in c.get("volumeMounts", ()))
    ]
    if not is_mounted or not needing:
        return
    name = f"{_VOLUME_PREFIX}{suffix}"
    spec.setdefault("volumes", []).append({"name": name, "projected": _api_access()})
    for container in needing:
        mount = {"name": name, "mountPath": _MOUNT_PATH, "readOnly": True}
        container.setdefault("volumeMounts", []).append(mount)


def _api_access() -> Data:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_LIFETIME_S, "path": "token"}},
            {"configMap": {"name": ROOT_CA_CONFIGMAP, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }


def use_priority(pod: Data, classes: Iterable[Mapping[str, Any]]) -> str:
    """Give a pod the priority of its class; return why that cannot be, empty when it can."""
    spec = pod.setdefault("spec", {})
    name = spec.get("priorityClassName", "")
    if name:
        found = next((c for c in classes if c["metadata"]["name"] == name), None)
        if found is None:
            return f"no PriorityClass with name {name} was found"
    else:
        found = min((c for c in classes if c.get("globalDefault")), key=lambda c: int(c["value"]), default=None)
    value = found["value"] if found is not None else 0
    if spec.get("priority", value) != value:
        return (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name"
        )
    spec["priority"] = value
    if found is not None:
        spec["priorityClassName"] = found["metadata"]["name"]
        spec.setdefault("preemptionPolicy", found.get("preemptionPolicy", "PreemptLowerPriority"))
    return ""
