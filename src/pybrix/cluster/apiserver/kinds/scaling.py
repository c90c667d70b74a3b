"""Disruption budgets, autoscalers and priority classes: what is filled in and what is refused. Pure.

https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from typing import Any

from pybrix.base.quantity import parse_int_or_percent
from pybrix.cluster.apiserver.failures import Cause, forbidden_field, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.selectors import check_label_selector

Object = dict[str, Any]
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""Classes that every cluster has."""
HIGHEST_USER_PRIORITY = 1_000_000_000
_PREEMPTION = ("Never", "PreemptLowerPriority")
_EVICTION = ("AlwaysAllow", "IfHealthyBudget")
_METRICS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS = {"AverageValue": "averageValue", "Utilization": "averageUtilization", "Value": "value"}
_UP_POLICIES = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
_DOWN_POLICIES = ({"type": "Percent", "value": 100, "periodSeconds": 15},)


def check_budget(data: Object) -> list[Cause]:
    spec = data.get("spec", {})
    causes: list[Cause] = []
    if "minAvailable" in spec and "maxUnavailable" in spec:
        given = {k: spec[k] for k in ("maxUnavailable", "minAvailable")}
        causes.append(invalid_value("spec", given, "minAvailable and maxUnavailable cannot be both set"))
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec:
            causes += _check_share(spec[name], f"spec.{name}")
    policy = spec.get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
    if policy not in _EVICTION:
        causes.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, _EVICTION))
    return causes + check_label_selector("spec.selector", spec.get("selector", {}))


def _check_share(value: Any, path: str) -> list[Cause]:
    try:
        number = parse_int_or_percent(value, 100, round_up=True)
    except ValueError:
        detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%')"
        return [invalid_value(path, value, detail)]
    if number < 0:
        return [invalid_value(path, value, "must be greater than or equal to 0")]
    if isinstance(value, str) and number > 100:
        return [invalid_value(path, value, "must not be greater than 100%")]
    return []


def default_autoscaler(data: Object) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is None:
        return
    up = behavior.setdefault("scaleUp", {})
    up.setdefault("stabilizationWindowSeconds", 0)
    down = behavior.setdefault("scaleDown", {})
    for rules, policies in ((up, _UP_POLICIES), (down, _DOWN_POLICIES)):
        rules.setdefault("selectPolicy", "Max")
        if not rules.get("policies"):
            rules["policies"] = [dict(policy) for policy in policies]


def check_autoscaler(data: Object) -> list[Cause]:
    spec = data["spec"]
    target = spec.get("scaleTargetRef") or {}
    causes = [required(f"spec.scaleTargetRef.{name}") for name in ("kind", "name") if not target.get(name)]
    least, most = spec["minReplicas"], spec.get("maxReplicas", 0)
    if least < 1:
        causes.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid_value("spec.maxReplicas", most, "must be greater than 0"))
    elif most < least:
        causes.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    for index, metric in enumerate(spec["metrics"]):
        causes += _check_metric(metric, f"spec.metrics[{index}]")
    for direction in ("scaleUp", "scaleDown"):
        rules = spec.get("behavior", {}).get(direction, {})
        if rules.get("selectPolicy", "Max") not in ("Disabled", "Max", "Min"):
            at = f"spec.behavior.{direction}.selectPolicy"
            causes.append(not_supported(at, rules["selectPolicy"], ("Disabled", "Max", "Min")))
    return causes


def _check_metric(metric: Object, at: str) -> list[Cause]:
    kind = metric.get("type", "")
    if kind not in _METRICS:
        return [not_supported(f"{at}.type", kind, tuple(_METRICS))]
    source = metric.get(_METRICS[kind])
    if source is None:
        return [required(f"{at}.{_METRICS[kind]}", "must populate information for the given metric source")]
    causes = [
        forbidden_field(f"{at}.{name}", "must populate the given metric source only")
        for word, name in _METRICS.items()
        if word != kind and name in metric
    ]
    target = source.get("target") if isinstance(source, dict) else None
    below = f"{at}.{_METRICS[kind]}.target"
    if not isinstance(target, dict) or target.get("type") not in _TARGETS:
        return [*causes, required(f"{below}.type", f"must be one of {', '.join(_TARGETS)}")]
    needed = _TARGETS[target["type"]]
    return causes if needed in target else [*causes, required(f"{below}.{needed}")]


def default_priority_class(data: Object) -> None:
    data.setdefault("preemptionPolicy", "PreemptLowerPriority")


def check_priority_class(data: Object) -> list[Cause]:
    name, value = data["metadata"].get("name", ""), data.get("value", 0)
    causes: list[Cause] = []
    if name.startswith("system-") and SYSTEM_PRIORITIES.get(name) != value:
        detail = "priority class names with 'system-' prefix are reserved for system use only"
        causes.append(forbidden_field("metadata.name", detail))
    elif name not in SYSTEM_PRIORITIES and value > HIGHEST_USER_PRIORITY:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        causes.append(forbidden_field("value", detail))
    if data["preemptionPolicy"] not in _PREEMPTION:
        causes.append(not_supported("preemptionPolicy", data["preemptionPolicy"], _PREEMPTION))
    return causes


def check_priority_class_change(old: Object, new: Object) -> list[Cause]:
    return [
        forbidden_field(name, "may not be changed in an update.")
        for name in ("value", "preemptionPolicy")
        if old.get(name) != new.get(name)
    ]
