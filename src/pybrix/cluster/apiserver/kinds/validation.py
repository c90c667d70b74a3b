"""What a server refuses, kind by kind: `validate_create`, `validate_update`. Pure; returns every cause it finds."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from pybrix.api.selectors import compile_label_selector
from pybrix.base.quantity import parse_int_or_percent
from pybrix.cluster.apiserver.failures import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from pybrix.cluster.apiserver.kinds.access import (
    check_binding_change,
    check_cluster_role,
    check_cluster_role_binding,
    check_path_segment,
    check_role,
    check_role_binding,
)
from pybrix.cluster.apiserver.kinds.definitions import check_definition, check_definition_update
from pybrix.cluster.apiserver.kinds.jobs import check_job, check_job_update
from pybrix.cluster.apiserver.kinds.mutating import check_mutating_binding, check_mutating_policy
from pybrix.cluster.apiserver.kinds.names import (
    check_dns_1035,
    check_dns_label,
    check_dns_subdomain,
    check_labels,
    check_metadata,
)
from pybrix.cluster.apiserver.kinds.pods import check_pod, check_pod_template, check_pod_update
from pybrix.cluster.apiserver.kinds.policies import check_binding, check_policy
from pybrix.cluster.apiserver.kinds.scaling import (
    check_autoscaler,
    check_budget,
    check_priority_class,
    check_priority_class_change,
)
from pybrix.cluster.apiserver.kinds.selectors import parse_label_selector
from pybrix.cluster.apiserver.kinds.stateful import (
    check_claim,
    check_claim_update,
    check_stateful_set,
    check_stateful_set_update,
    with_claimed_volumes,
)
from pybrix.cluster.apiserver.kinds.traffic import check_ingress, check_network_policy

Object = dict[str, Any]
_IMMUTABLE = "field is immutable"
_DATA_LIMIT_BYTES = 1024 * 1024
# Names that are one DNS label; every other name may have dots.
_LABEL_NAMES = frozenset({"Namespace"})
_DNS_1035_NAMES = frozenset({"Service"})
# Names of roles may have colons: system:node.
_PATH_NAMES = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})


def validate_create(kind: str, data: Object) -> list[Cause]:
    """Return what is wrong with a new object of a kind, built-in or custom; its name is set."""
    causes = check_name(kind, data["metadata"].get("name", "")) + check_metadata(data["metadata"])
    rule = _RULES.get(kind)
    return causes + (rule(data) if rule is not None else [])


def validate_update(kind: str, old: Object, new: Object) -> list[Cause]:
    """Return what is wrong with an object that replaces `old`."""
    causes = check_metadata(new["metadata"])
    rule, update_rule = _RULES.get(kind), _UPDATE_RULES.get(kind)
    # A definition's rule on updates includes the rule on what is new.
    if rule is not None and kind != "CustomResourceDefinition":
        causes += rule(new)
    if update_rule is not None:
        causes += update_rule(old, new)
    return causes


def check_name(kind: str, name: str) -> list[Cause]:
    if kind in _LABEL_NAMES:
        return check_dns_label("metadata.name", name)
    if kind in _DNS_1035_NAMES:
        return check_dns_1035("metadata.name", name)
    if kind in _PATH_NAMES:
        return check_path_segment("metadata.name", name)
    return check_dns_subdomain("metadata.name", name)


def check_selector(path: str, selector: Any, template: Any) -> list[Cause]:
    """Check a workload's selector: there, well-formed, not empty, matching the template's labels."""
    if not selector:
        return [required(path)]
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return [invalid_value(path, "{}", "empty selector is invalid for deployment")]
    causes = check_labels(f"{path}.matchLabels", selector.get("matchLabels", {}))
    try:
        compiled = compile_label_selector(parse_label_selector(selector))
    except ValueError as err:
        return [*causes, invalid_value(f"{path}.matchExpressions", selector.get("matchExpressions"), str(err))]
    labels = (template or {}).get("metadata", {}).get("labels", {})
    if not causes and compiled is not None and not compiled.matches(labels):
        detail = "`selector` does not match template `labels`"
        causes.append(invalid_value("spec.template.metadata.labels", labels, detail))
    return causes


def _not_negative(spec: Object, path: str, *names: str) -> list[Cause]:
    return [
        invalid_value(f"{path}.{name}", spec[name], "must be greater than or equal to 0")
        for name in names
        if isinstance(spec.get(name), int) and spec[name] < 0
    ]


def _deployment(data: Object) -> list[Cause]:
    spec = data["spec"]
    causes = _workload(spec)
    causes += _not_negative(
        spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"
    )
    if spec["progressDeadlineSeconds"] <= spec.get("minReadySeconds", 0):
        detail = "must be greater than minReadySeconds"
        causes.append(invalid_value("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], detail))
    strategy = spec["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        return [*causes, not_supported("spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate"))]
    if strategy["type"] == "Recreate":
        if "rollingUpdate" in strategy:
            detail = "may not be specified when strategy `type` is 'Recreate'"
            causes.append(forbidden_field("spec.strategy.rollingUpdate", detail))
        return causes
    values: dict[str, int] = {}
    for name in ("maxUnavailable", "maxSurge"):
        path, given = f"spec.strategy.rollingUpdate.{name}", strategy["rollingUpdate"][name]
        try:
            values[name] = parse_int_or_percent(given, 100, round_up=True)
        except ValueError:
            detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%')"
            causes.append(invalid_value(path, given, detail))
            continue
        if values[name] < 0:
            causes.append(invalid_value(path, given, "must be greater than or equal to 0"))
    if values.get("maxUnavailable") == 0 and values.get("maxSurge") == 0:
        detail = "may not be 0 when `maxSurge` is 0"
        given = strategy["rollingUpdate"]["maxUnavailable"]
        causes.append(invalid_value("spec.strategy.rollingUpdate.maxUnavailable", given, detail))
    return causes


def _replicaset(data: Object) -> list[Cause]:
    return _workload(data["spec"]) + _not_negative(data["spec"], "spec", "replicas", "minReadySeconds")


def _stateful_set(data: Object) -> list[Cause]:
    return _workload(with_claimed_volumes(data["spec"])) + check_stateful_set(data["spec"])


def _workload(spec: Object) -> list[Cause]:
    if "template" not in spec:
        return [*check_selector("spec.selector", spec.get("selector"), {}), required("spec.template")]
    causes = check_selector("spec.selector", spec.get("selector"), spec["template"])
    causes += check_pod_template(spec["template"], "spec.template")
    policy = spec["template"].get("spec", {}).get("restartPolicy", "Always")
    if policy != "Always":
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    return causes


def _selector_is_immutable(old: Object, new: Object) -> list[Cause]:
    before, after = old["spec"].get("selector"), new["spec"].get("selector")
    return [] if before == after else [invalid_value("spec.selector", after, _IMMUTABLE)]


def _service(data: Object) -> list[Cause]:
    spec = data["spec"]
    types = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in types:
        return [not_supported("spec.type", spec["type"], types)]
    causes = check_labels("spec.selector", spec.get("selector", {}))
    if spec["sessionAffinity"] not in ("ClientIP", "None"):
        causes.append(not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None")))
    address = spec.get("clusterIP", "")
    if address not in ("", "None"):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            causes.append(invalid_value("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7)"))
    if spec["type"] == "ExternalName":
        if not spec.get("externalName"):
            causes.append(required("spec.externalName"))
        return causes
    ports = spec.get("ports", [])
    if not ports and address != "None":
        causes.append(required("spec.ports"))
    names: set[str] = set()
    pairs: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(required(f"{path}.name"))
        elif name:
            causes += check_dns_label(f"{path}.name", name)
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        number = port.get("port", 0)
        if not 1 <= number <= 65535:
            causes.append(invalid_value(f"{path}.port", number, "must be between 1 and 65535, inclusive"))
        target = port.get("targetPort")
        if isinstance(target, int) and not 1 <= target <= 65535:
            causes.append(invalid_value(f"{path}.targetPort", target, "must be between 1 and 65535, inclusive"))
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            causes.append(not_supported(f"{path}.protocol", port["protocol"], ("SCTP", "TCP", "UDP")))
        if (number, port["protocol"]) in pairs:
            causes.append(duplicate(path, number))
        pairs.add((number, port["protocol"]))
    return causes


def _service_update(old: Object, new: Object) -> list[Cause]:
    before, after = old["spec"], new["spec"]
    if "ExternalName" in (before.get("type"), after.get("type")):
        return []
    if before.get("clusterIP") and before["clusterIP"] != after.get("clusterIP"):
        return [invalid_value("spec.clusterIPs[0]", [after.get("clusterIP", "")], "may not change once set")]
    return []


def _data_size(data: Object) -> list[Cause]:
    total = 0
    causes: list[Cause] = []
    for part in ("data", "binaryData"):
        for key, value in data.get(part, {}).items():
            total += len(value)
            if not key or len(key) > 253 or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in key):
                detail = (
                    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                )
                causes.append(invalid_value(f"{part}[{key}]", key, detail))
    both = set(data.get("data", {})) & set(data.get("binaryData", {}))
    causes += [invalid_value(f"data[{k}]", k, "duplicate of key present in binaryData") for k in sorted(both)]
    if total > _DATA_LIMIT_BYTES:
        causes.append(Cause("", f"Too long: may not be more than {_DATA_LIMIT_BYTES} bytes", "FieldValueTooLong"))
    return causes


def _data_update(old: Object, new: Object) -> list[Cause]:
    causes: list[Cause] = []
    if old.get("immutable"):
        causes += [
            forbidden_field(part, "field is immutable when `immutable` is set")
            for part in ("data", "binaryData")
            if old.get(part, {}) != new.get(part, {})
        ]
        if not new.get("immutable"):
            causes.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
    return causes


def _secret_update(old: Object, new: Object) -> list[Cause]:
    causes = _data_update(old, new)
    if old.get("type") != new.get("type"):
        causes.append(invalid_value("type", new.get("type"), _IMMUTABLE))
    return causes


def _endpoint_slice(data: Object) -> list[Cause]:
    kinds = ("FQDN", "IPv4", "IPv6")
    if data.get("addressType") not in kinds:
        return [not_supported("addressType", data.get("addressType", ""), kinds)]
    causes: list[Cause] = []
    for index, endpoint in enumerate(data.get("endpoints", ())):
        path = f"endpoints[{index}].addresses"
        addresses = endpoint.get("addresses", [])
        if not addresses:
            causes.append(required(path, "must contain at least 1 address"))
        for address in addresses if data["addressType"] != "FQDN" else ():
            try:
                parsed = ipaddress.ip_address(address)
            except ValueError:
                causes.append(invalid_value(path, address, "must be a valid IP address"))
                continue
            if f"IPv{parsed.version}" != data["addressType"]:
                causes.append(invalid_value(path, address, f"must be a valid {data['addressType']} address"))
    names = [port.get("name", "") for port in data.get("ports", ())]
    causes += [duplicate(f"ports[{i}].name", n) for i, n in enumerate(names) if n in names[:i]]
    return causes


def _endpoint_slice_update(old: Object, new: Object) -> list[Cause]:
    if old.get("addressType") == new.get("addressType"):
        return []
    return [invalid_value("addressType", new.get("addressType"), _IMMUTABLE)]


def _lease(data: Object) -> list[Cause]:
    spec = data.get("spec", {})
    causes: list[Cause] = []
    if isinstance(spec.get("leaseDurationSeconds"), int) and spec["leaseDurationSeconds"] <= 0:
        detail = "must be greater than 0"
        causes.append(invalid_value("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], detail))
    return causes + _not_negative(spec, "spec", "leaseTransitions")


def _event(data: Object) -> list[Cause]:
    about = data.get("involvedObject", {}).get("namespace", "")
    namespace = data["metadata"].get("namespace", "")
    if about != namespace and not (about == "" and namespace == "default"):
        return [invalid_value("involvedObject.namespace", about, "does not match event.namespace")]
    return []


_RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "Pod": check_pod,
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "StatefulSet": _stateful_set,
    "Job": check_job,
    "PersistentVolumeClaim": check_claim,
    "Service": _service,
    "ConfigMap": _data_size,
    "Secret": _data_size,
    "EndpointSlice": _endpoint_slice,
    "Lease": _lease,
    "Event": _event,
    "CustomResourceDefinition": check_definition,
    "ValidatingAdmissionPolicy": check_policy,
    "ValidatingAdmissionPolicyBinding": check_binding,
    "MutatingAdmissionPolicy": check_mutating_policy,
    "MutatingAdmissionPolicyBinding": check_mutating_binding,
    "Role": check_role,
    "ClusterRole": check_cluster_role,
    "RoleBinding": check_role_binding,
    "ClusterRoleBinding": check_cluster_role_binding,
    "NetworkPolicy": check_network_policy,
    "Ingress": check_ingress,
    "PodDisruptionBudget": check_budget,
    "HorizontalPodAutoscaler": check_autoscaler,
    "PriorityClass": check_priority_class,
}
_UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "Pod": check_pod_update,
    "Deployment": _selector_is_immutable,
    "ReplicaSet": _selector_is_immutable,
    "StatefulSet": check_stateful_set_update,
    "Job": check_job_update,
    "PersistentVolumeClaim": check_claim_update,
    "Service": _service_update,
    "ConfigMap": _data_update,
    "Secret": _secret_update,
    "EndpointSlice": _endpoint_slice_update,
    "CustomResourceDefinition": check_definition_update,
    "RoleBinding": check_binding_change,
    "ClusterRoleBinding": check_binding_change,
    "PriorityClass": check_priority_class_change,
}
