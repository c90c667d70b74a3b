"""What a server fills in where a manifest is silent, kind by kind. Pure; changes the object it is given.

Source: the defaults listed at https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from pybrix.cluster.apiserver.kinds.access import default_binding
from pybrix.cluster.apiserver.kinds.jobs import default_job
from pybrix.cluster.apiserver.kinds.scaling import default_autoscaler, default_priority_class
from pybrix.cluster.apiserver.kinds.stateful import default_claim, default_stateful_set
from pybrix.cluster.apiserver.kinds.traffic import default_network_policy


def default_object(kind: str, data: dict[str, Any]) -> None:
    """Fill in the defaults of a built-in kind; other kinds have none."""
    rule = _RULES.get(kind)
    if rule is not None:
        rule(data)


def _namespace(data: dict[str, Any]) -> None:
    # Selectors of policies find a namespace by this label, so a server keeps it right.
    labels = data["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = data["metadata"].get("name", "")


def _secret(data: dict[str, Any]) -> None:
    data.setdefault("type", "Opaque")
    plain = data.pop("stringData", None)
    if plain:
        encoded = {k: base64.b64encode(str(v).encode()).decode() for k, v in plain.items()}
        data["data"] = {**data.get("data", {}), **encoded}


def _service(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        affinity = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        affinity.setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _deployment(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    _template(spec)


def _replicaset(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _template(spec)


def _stateful_set(data: dict[str, Any]) -> None:
    default_stateful_set(data)
    _template(data["spec"])


def _job(data: dict[str, Any]) -> None:
    default_job(data)
    _template(data["spec"])


def _template(spec: dict[str, Any]) -> None:
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {}).pop("creationTimestamp", None)
        if "spec" in template:
            default_pod_spec(template["spec"])


def _pod(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    tolerations = spec.setdefault("tolerations", [])
    # Without these, a node that is briefly away would evict its pods at once.
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(t.get("key") in (key, None, "") and t.get("effect") in ("NoExecute", None, "") for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def default_pod_spec(spec: dict[str, Any]) -> None:
    """Fill in what every pod spec has, in a pod and in a template."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("securityContext", {})
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for name in ("initContainers", "containers"):
        for container in spec.get(name, ()):
            _container(container, is_on_host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _container(container: dict[str, Any], *, is_on_host_network: bool) -> None:
    container.setdefault("resources", {})
    # A request that is not named is as large as its limit.
    limits = container["resources"].get("limits")
    if limits:
        requests = container["resources"].setdefault("requests", {})
        for name, quantity in limits.items():
            requests.setdefault(name, quantity)
    container["terminationMessagePath"] = container.get("terminationMessagePath") or "/dev/termination-log"
    container["terminationMessagePolicy"] = container.get("terminationMessagePolicy") or "File"
    container.setdefault("imagePullPolicy", default_pull_policy(container.get("image", "")))
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if is_on_host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for variable in container.get("env", ()):
        field_ref = variable.get("valueFrom", {}).get("fieldRef")
        if field_ref is not None:
            field_ref.setdefault("apiVersion", "v1")
        resource_ref = variable.get("valueFrom", {}).get("resourceFieldRef")
        if resource_ref is not None:
            resource_ref.setdefault("divisor", "0")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for handler in container.get("lifecycle", {}).values():
        if isinstance(handler, dict) and "httpGet" in handler:
            _http_get(handler["httpGet"])


def default_pull_policy(image: str) -> str:
    """Return Always for an image without a tag or with `latest`, IfNotPresent for every other."""
    name, at, _digest = image.partition("@")
    _, colon, tag = name.rsplit("/", 1)[-1].partition(":")
    return "Always" if not at and (not colon or tag == "latest") else "IfNotPresent"


def _probe(probe: dict[str, Any]) -> None:
    probe.setdefault("timeoutSeconds", 1)
    probe.setdefault("periodSeconds", 10)
    probe.setdefault("successThreshold", 1)
    probe.setdefault("failureThreshold", 3)
    for name in ("timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe[name] == 0:
            probe[name] = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}[name]
    if "httpGet" in probe:
        _http_get(probe["httpGet"])
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def _http_get(action: dict[str, Any]) -> None:
    action.setdefault("path", "/")
    action.setdefault("scheme", "HTTP")


def _volume(volume: dict[str, Any]) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        if name in volume:
            volume[name].setdefault("defaultMode", 0o644)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    _downward_items(volume.get("downwardAPI", {}))
    for source in volume.get("projected", {}).get("sources", ()):
        _downward_items(source.get("downwardAPI", {}))
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def _downward_items(source: dict[str, Any]) -> None:
    for item in source.get("items", ()):
        if "fieldRef" in item:
            item["fieldRef"].setdefault("apiVersion", "v1")
        if "resourceFieldRef" in item:
            item["resourceFieldRef"].setdefault("divisor", "0")


def _endpoint_slice(data: dict[str, Any]) -> None:
    data.setdefault("endpoints", [])
    for port in data.get("ports", ()):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _definition(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})


def _event(data: dict[str, Any]) -> None:
    data.setdefault("source", {})
    data.setdefault("type", "Normal")


def _policy(data: dict[str, Any]) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    _match_resources(spec.get("matchConstraints"))


def _policy_binding(data: dict[str, Any]) -> None:
    _match_resources(data.setdefault("spec", {}).get("matchResources"))


def _match_resources(match: dict[str, Any] | None) -> None:
    if match is None:
        return
    match.setdefault("matchPolicy", "Equivalent")
    match.setdefault("namespaceSelector", {})
    match.setdefault("objectSelector", {})
    for name in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(name, ()):
            rule.setdefault("scope", "*")


_RULES: dict[str, Callable[[dict[str, Any]], None]] = {
    "Namespace": _namespace,
    "Secret": _secret,
    "Service": _service,
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "PersistentVolumeClaim": default_claim,
    "Pod": _pod,
    "EndpointSlice": _endpoint_slice,
    "CustomResourceDefinition": _definition,
    "Event": _event,
    "ValidatingAdmissionPolicy": _policy,
    "ValidatingAdmissionPolicyBinding": _policy_binding,
    "RoleBinding": default_binding,
    "ClusterRoleBinding": default_binding,
    "NetworkPolicy": default_network_policy,
    "HorizontalPodAutoscaler": default_autoscaler,
    "PriorityClass": default_priority_class,
}


def qos_class(spec: dict[str, Any]) -> str:
    """Return Guaranteed, Burstable or BestEffort: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/."""
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    resources = [c.get("resources", {}) for c in containers]
    wanted = [
        {k: v for k, v in r.get(side, {}).items() if k in ("cpu", "memory")}
        for r in resources
        for side in ("requests", "limits")
    ]
    if not any(wanted):
        return "BestEffort"
    for part in resources:
        limits, requests = part.get("limits", {}), part.get("requests", {})
        if not all(k in limits and requests.get(k, limits[k]) == limits[k] for k in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"
