"""Find AIBrix's own controllers on a cluster: two sets of controllers on the same objects would undo each other. Pure.

Names are those of AIBrix's manifests and Helm chart; a renamed Deployment is found by its image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pybrix.base.clock import parse_rfc3339

MANAGER = "aibrix-controller-manager"
_MANAGER_IMAGE = "aibrix/controller-manager"
WEBHOOK_CONFIGURATIONS = ("aibrix-mutating-webhook-configuration", "aibrix-validating-webhook-configuration")
_DEFAULT_LEASE_S = 15


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something of AIBrix that works on the same objects.

    Args:
        what: kind and name.
        why: what it does.
        remedy: a command that ends it.
    """

    what: str
    why: str
    remedy: str


def find_conflicts(
    deployments: Iterable[Mapping[str, Any]],
    leases: Iterable[Mapping[str, Any]],
    webhooks: Iterable[Mapping[str, Any]],
    now: datetime,
) -> tuple[Conflict, ...]:
    """Return what of AIBrix works on the cluster; stopped controllers and leases that have run out do not.

    Args:
        deployments: of all namespaces.
        leases: of all namespaces.
        webhooks: MutatingWebhookConfigurations and ValidatingWebhookConfigurations.
    """
    return (
        *(each for deployment in deployments if (each := _of_deployment(deployment)) is not None),
        *(each for lease in leases if (each := _of_lease(lease, now)) is not None),
        *(each for webhook in webhooks if (each := _of_webhook(webhook)) is not None),
    )


def _of_deployment(deployment: Mapping[str, Any]) -> Conflict | None:
    namespace, name = _place(deployment)
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    images = [str(container.get("image", "")) for container in containers]
    if name != MANAGER and not any(_MANAGER_IMAGE in image for image in images):
        return None
    wanted = deployment["spec"].get("replicas", 1)
    running = (deployment.get("status") or {}).get("replicas", 0)
    if not wanted and not running:
        return None
    return Conflict(
        f"Deployment {namespace}/{name}",
        f"AIBrix's controllers ({', '.join(images)}), {wanted} wanted, {running} running",
        f"kubectl -n {namespace} scale deployment {name} --replicas 0",
    )


def _of_lease(lease: Mapping[str, Any], now: datetime) -> Conflict | None:
    namespace, name = _place(lease)
    spec = lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if name != MANAGER or not holder or not renewed:
        return None
    if parse_rfc3339(renewed) + timedelta(seconds=spec.get("leaseDurationSeconds") or _DEFAULT_LEASE_S) < now:
        return None
    return Conflict(
        f"Lease {namespace}/{name}",
        f"held by {holder}, renewed at {renewed}: a controller of AIBrix works",
        "stop the Deployment that holds it",
    )


def _of_webhook(webhook: Mapping[str, Any]) -> Conflict | None:
    name, kind = _place(webhook)[1], str(webhook["kind"])
    if name not in WEBHOOK_CONFIGURATIONS:
        return None
    return Conflict(
        f"{kind} {name}",
        "AIBrix's webhook is asked about every change of the same kinds",
        f"kubectl delete {kind.lower()} {name}",
    )


def _place(obj: Mapping[str, Any]) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))
