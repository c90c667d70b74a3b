"""AIBrix's controllers are found when they work, and only then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pybrix.install.aibrix import find_conflicts

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def deployment(name: str, *, image: str = "x", replicas: int | None = 1, running: int = 0) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "kind": "Deployment",
        "metadata": {"namespace": "aibrix-system", "name": name},
        "spec": spec,
        "status": {"replicas": running},
    }


def lease(renewed: str, holder: str = "pod-1") -> dict[str, Any]:
    return {
        "kind": "Lease",
        "metadata": {"namespace": "aibrix-system", "name": "aibrix-controller-manager"},
        "spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15},
    }


@pytest.mark.parametrize(
    ("found", "count"),
    [
        pytest.param(deployment("aibrix-controller-manager"), 1, id="by-name"),
        pytest.param(deployment("renamed", image="docker.io/aibrix/controller-manager:v0.5.0"), 1, id="by-image"),
        pytest.param(deployment("aibrix-controller-manager", replicas=None), 1, id="replicas-not-said"),
        pytest.param(deployment("aibrix-controller-manager", replicas=0, running=1), 1, id="still-ending"),
        pytest.param(deployment("aibrix-controller-manager", replicas=0), 0, id="stopped"),
        pytest.param(deployment("aibrix-gateway-plugins", image="aibrix/gateway-plugins:v0.5.0"), 0, id="gateway"),
        pytest.param(deployment("pybrix-controllers", image="ghcr.io/pybrix/pybrix:0.1.0"), 0, id="ourselves"),
    ],
)
def test_a_deployment_counts_while_it_runs(found: dict[str, Any], count: int) -> None:
    assert len(find_conflicts([found], [], [], NOW)) == count


@pytest.mark.parametrize(
    ("found", "count"),
    [
        pytest.param(lease("2026-01-01T11:59:50.000000Z"), 1, id="renewed-10-s-ago"),
        pytest.param(lease("2026-01-01T11:59:00.000000Z"), 0, id="run-out"),
        pytest.param(lease("2026-01-01T11:59:50.000000Z", holder=""), 0, id="given-back"),
    ],
)
def test_a_lease_counts_while_it_is_renewed(found: dict[str, Any], count: int) -> None:
    assert len(find_conflicts([], [found], [], NOW)) == count


def test_a_webhook_is_named_with_the_command_that_removes_it() -> None:
    webhooks = [
        {"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "aibrix-validating-webhook-configuration"}},
        {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "somebody-elses"}},
    ]
    (conflict,) = find_conflicts([], [], webhooks, NOW)
    assert conflict.what == "ValidatingWebhookConfiguration aibrix-validating-webhook-configuration"
    assert conflict.remedy == ("kubectl delete validatingwebhookconfiguration aibrix-validating-webhook-configuration")
