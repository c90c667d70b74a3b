"""Admission policies: rules on annotations, which a CustomResourceDefinition cannot have. Pure.

A policy and its binding are evaluated by the API server itself (ValidatingAdmissionPolicy, Kubernetes 1.30).
"""

from __future__ import annotations

from typing import Any

from pybrix.api import names
from pybrix.api.autoscaling.v1alpha1.podautoscaler import PodAutoscaler
from pybrix.api.markers import CustomResource
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet

KVCACHE_BACKEND = "kvcache.orchestration.aibrix.ai/backend"
KVCACHE_MODE = "kvcache.orchestration.aibrix.ai/mode"
KVCACHE_BACKENDS = ("vineyard", "hpkv", "infinistore")
_PORTS = "object.spec.service.ports"
_IS_DISTRIBUTED = (
    f"('{KVCACHE_BACKEND}' in variables.annotations && variables.annotations['{KVCACHE_BACKEND}'] != 'vineyard' && "
    "has(object.spec) && has(object.spec.service))"
)
"""Vineyard has a Service of its own making."""
_HPKV = "hpkv.kvcache.orchestration.aibrix.ai/"
_INFINISTORE = "infinistore.kvcache.orchestration.aibrix.ai/"
_SCALING = "autoscaling.aibrix.ai/"
_DECIMAL = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?$"
_DURATION = r"^(0|([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|ms|s|m|h))+$"


def render_policies() -> list[dict[str, Any]]:
    """Return every policy, each followed by its binding."""
    return [
        *_policy(KVCache, _kvcache_rules()),
        *_policy(PodAutoscaler, _autoscaler_rules()),
        *_policy(
            RayClusterFleet, [_number(name, 0, 999_999_999) for name in (names.DRAIN_DEADLINE, names.REPAIR_AFTER)]
        ),
    ]


def _kvcache_rules() -> list[dict[str, str]]:
    backends = ", ".join(KVCACHE_BACKENDS)
    longest = len("-kvcache-watcher-pod")
    return [
        _rule(KVCACHE_BACKEND, f"%s in {_cel_list(KVCACHE_BACKENDS)}", f"must be one of {backends}"),
        _rule(
            KVCACHE_MODE,
            f"%s in {_cel_list(('distributed', 'centralized', *KVCACHE_BACKENDS))}",
            "must be distributed or centralized",
        ),
        {
            "expression": f"!('{KVCACHE_BACKEND}' in variables.annotations) || "
            f"variables.annotations['{KVCACHE_BACKEND}'] == 'vineyard' || "
            f"size(object.metadata.name) <= {63 - longest}",
            "message": f"metadata.name: with backend hpkv or infinistore a name may have {63 - longest} characters, "
            "because names of pods are made of it",
        },
        {
            "expression": f"!{_IS_DISTRIBUTED} || !has({_PORTS}) || size({_PORTS}) < 2 || "
            f"{_PORTS}.all(p, has(p.name) && p.name != '' && "
            f"{_PORTS}.exists_one(q, has(q.name) && q.name == p.name))",
            "message": "spec.service.ports: each of several ports of a Service needs a name of its own",
        },
        _number(f"{_HPKV}rdma-port", 1, 65535),
        _number(f"{_HPKV}admin-port", 1, 65535),
        _number(f"{_HPKV}block-size-bytes", 1),
        _number(f"{_HPKV}block-count", 1),
        _number(f"{_HPKV}total-slots", 1),
        _number(f"{_HPKV}virtual-node-count", 1),
        _number(f"{_INFINISTORE}hint-gid-index", 0),
    ]


def _autoscaler_rules() -> list[dict[str, str]]:
    def decimal(name: str, least: str, text: str) -> dict[str, str]:
        return _rule(f"{_SCALING}{name}", f"%s.matches('{_DECIMAL}') && double(%s) >= {least}", f"must be {text}")

    return [
        decimal("max-scale-up-rate", "1.0", "a number of at least 1, such as 2"),
        decimal("max-scale-down-rate", "1.0", "a number of at least 1, such as 2"),
        decimal("scale-up-tolerance", "0.0", "a number of at least 0, such as 0.1"),
        decimal("scale-down-tolerance", "0.0", "a number of at least 0, such as 0.1"),
        decimal("panic-threshold", "1.0", "a number of at least 1, such as 2.0"),
        *(
            _rule(f"{_SCALING}{name}", f"%s.matches('{_DURATION}')", "must be a duration such as 90s or 5m")
            for name in ("scale-up-cooldown-window", "scale-down-cooldown-window")
        ),
        _rule(
            f"{_SCALING}scale-to-zero",
            "%s in ['1', 't', 'T', 'TRUE', 'true', 'True', '0', 'f', 'F', 'FALSE', 'false', 'False']",
            'must be "true" or "false"',
        ),
    ]


def _rule(annotation: str, condition: str, text: str) -> dict[str, str]:
    """Return a rule on one annotation; `%s` in the condition stands for its value."""
    value = f"variables.annotations['{annotation}']"
    return {
        "expression": f"!('{annotation}' in variables.annotations) || ({condition.replace('%s', value)})",
        "message": f"metadata.annotations[{annotation}]: {text}",
    }


def _number(annotation: str, least: int, most: int | None = None) -> dict[str, str]:
    bounds = f"int(%s) >= {least}" + ("" if most is None else f" && int(%s) <= {most}")
    text = f"must be a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
    # At most 18 digits: more would not fit into an int64, and the conversion would fail.
    return _rule(annotation, f"%s.matches('^[0-9]{{1,18}}$') && {bounds}", text)


def _cel_list(texts: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{text}'" for text in texts) + "]"


def _policy(cls: type[CustomResource], rules: list[dict[str, str]]) -> list[dict[str, Any]]:
    gvk = cls.gvk
    name = f"annotations.{gvk.plural}.{gvk.group}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [gvk.group],
                        "apiVersions": [gvk.version],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [gvk.plural],
                    }
                ]
            },
            "variables": [
                {
                    "name": "annotations",
                    "expression": "has(object.metadata.annotations) ? object.metadata.annotations : {}",
                }
            ],
            "validations": [{**rule, "reason": "Invalid"} for rule in rules],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return [policy, binding]
