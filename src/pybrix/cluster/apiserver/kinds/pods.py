"""What a server refuses in pods and pod templates, and what of a pod may still change. Pure."""

from __future__ import annotations

import copy
import re
from typing import Any

from pybrix.base.quantity import parse_quantity
from pybrix.cluster.apiserver.failures import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from pybrix.cluster.apiserver.kinds.names import (
    check_dns_label,
    check_label_value,
    check_metadata,
    check_qualified_name,
)

Object = dict[str, Any]
_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_ACTIONS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PORT_RANGE = "must be between 1 and 65535, inclusive"


def check_pod(data: Object) -> list[Cause]:
    return check_pod_spec(data["spec"], "spec")


def check_pod_template(template: Object, path: str) -> list[Cause]:
    causes = check_metadata(template.get("metadata", {}), f"{path}.metadata")
    return causes + check_pod_spec(template.get("spec", {}), f"{path}.spec")


def check_pod_spec(spec: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    volumes = _check_volumes(spec.get("volumes", []), f"{path}.volumes", causes)
    if not spec.get("containers"):
        causes.append(required(f"{path}.containers"))
    names: set[str] = set()
    for group in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(group, ())):
            _check_container(container, f"{path}.{group}[{index}]", group, names, volumes, causes)
    if spec.get("restartPolicy", "Always") not in _RESTART:
        causes.append(not_supported(f"{path}.restartPolicy", spec["restartPolicy"], _RESTART))
    if spec.get("dnsPolicy", "ClusterFirst") not in _DNS:
        causes.append(not_supported(f"{path}.dnsPolicy", spec["dnsPolicy"], _DNS))
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        causes.append(
            invalid_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0")
        )
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            causes += check_dns_label(f"{path}.{name}", spec[name])
    for index, toleration in enumerate(spec.get("tolerations", ())):
        causes += _check_toleration(toleration, f"{path}.tolerations[{index}]")
    return causes


def _check_toleration(toleration: Object, path: str) -> list[Cause]:
    key, operator, effect = (toleration.get(name, "") for name in ("key", "operator", "effect"))
    value = toleration.get("value", "")
    causes = check_qualified_name(f"{path}.key", key) if key else []
    if not key and operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(invalid_value(f"{path}.operator", operator, detail))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        causes.append(invalid_value(f"{path}.effect", effect, detail))
    if operator not in ("", "Equal", "Exists"):
        causes.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    elif operator == "Exists" and value:
        causes.append(invalid_value(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'"))
    elif operator != "Exists":
        causes += check_label_value(f"{path}.value", value)
    if effect and effect not in _EFFECTS:
        causes.append(not_supported(f"{path}.effect", effect, _EFFECTS))
    return causes


def _check_volumes(volumes: list[Object], path: str, causes: list[Cause]) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        at = f"{path}[{index}]"
        name = volume.get("name", "")
        if not name:
            causes.append(required(f"{at}.name"))
            continue
        causes += check_dns_label(f"{at}.name", name)
        if name in names:
            causes.append(duplicate(f"{at}.name", name))
        names.add(name)
        kinds = [key for key in volume if key != "name"]
        causes += [forbidden_field(f"{at}.{k}", "may not specify more than 1 volume type") for k in kinds[1:]]
    return names


def _check_container(
    container: Object, path: str, group: str, names: set[str], volumes: set[str], causes: list[Cause]
) -> None:
    name = container.get("name", "")
    if not name:
        causes.append(required(f"{path}.name"))
    else:
        causes += check_dns_label(f"{path}.name", name)
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
    image = container.get("image", "")
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip():
        causes.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if container.get("imagePullPolicy", "Always") not in _PULL:
        causes.append(not_supported(f"{path}.imagePullPolicy", container["imagePullPolicy"], _PULL))
    _check_ports(container.get("ports", []), f"{path}.ports", causes)
    _check_env(container.get("env", []), f"{path}.env", causes)
    _check_resources(container.get("resources", {}), f"{path}.resources", causes)
    for index, mount in enumerate(container.get("volumeMounts", ())):
        at = f"{path}.volumeMounts[{index}]"
        if not mount.get("mountPath"):
            causes.append(required(f"{at}.mountPath"))
        if mount.get("name") not in volumes:
            causes.append(Cause(f"{at}.name", f'Not found: "{mount.get("name", "")}"', "FieldValueNotFound"))
    is_sidecar = group == "initContainers" and container.get("restartPolicy") == "Always"
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in container:
            if group == "initContainers" and not is_sidecar:
                detail = "may not be set for init containers without restartPolicy=Always"
                causes.append(forbidden_field(f"{path}.{kind}", detail))
            else:
                _check_probe(container[kind], f"{path}.{kind}", kind, causes)
    for hook in ("postStart", "preStop"):
        if hook in container.get("lifecycle", {}):
            _check_action(container["lifecycle"][hook], f"{path}.lifecycle.{hook}", causes)


def _check_ports(ports: list[Object], path: str, causes: list[Cause]) -> None:
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        name = port.get("name", "")
        if name:
            if len(name) > 15 or not _PORT_NAME.fullmatch(name) or "--" in name:
                detail = "must be no more than 15 lower case letters, digits or '-', with at least one letter"
                causes.append(invalid_value(f"{at}.name", name, detail))
            if name in names:
                causes.append(duplicate(f"{at}.name", name))
            names.add(name)
        if "containerPort" not in port:
            causes.append(required(f"{at}.containerPort"))
        elif not 1 <= port["containerPort"] <= 65535:
            causes.append(invalid_value(f"{at}.containerPort", port["containerPort"], _PORT_RANGE))
        if "hostPort" in port and not 1 <= port["hostPort"] <= 65535:
            causes.append(invalid_value(f"{at}.hostPort", port["hostPort"], _PORT_RANGE))
        if port.get("protocol", "TCP") not in _PROTOCOLS:
            causes.append(not_supported(f"{at}.protocol", port["protocol"], _PROTOCOLS))


def _check_env(env: list[Object], path: str, causes: list[Cause]) -> None:
    for index, variable in enumerate(env):
        at = f"{path}[{index}]"
        name = variable.get("name", "")
        if not name:
            causes.append(required(f"{at}.name"))
        elif "=" in name or not name.isprintable() or not name.isascii():
            detail = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            causes.append(invalid_value(f"{at}.name", name, detail))
        source = variable.get("valueFrom")
        if source is not None:
            if variable.get("value"):
                causes.append(invalid_value(f"{at}.valueFrom", "", "may not be specified when `value` is not empty"))
            if len(source) != 1:
                detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
                causes.append(invalid_value(f"{at}.valueFrom", "", detail))


def _check_resources(resources: Object, path: str, causes: list[Cause]) -> None:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for side, quantities in (("limits", limits), ("requests", requests)):
        for name, quantity in quantities.items():
            if parse_quantity(quantity) < 0:
                detail = "must be greater than or equal to 0"
                causes.append(invalid_value(f"{path}.{side}[{name}]", quantity, detail))
    for name, quantity in requests.items():
        if name in limits and parse_quantity(quantity) > parse_quantity(limits[name]):
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            causes.append(invalid_value(f"{path}.requests", quantity, detail))


def _check_probe(probe: Object, path: str, kind: str, causes: list[Cause]) -> None:
    _check_action(probe, path, causes)
    for name, least in (
        ("initialDelaySeconds", 0),
        ("timeoutSeconds", 1),
        ("periodSeconds", 1),
        ("successThreshold", 1),
        ("failureThreshold", 1),
    ):
        if probe.get(name, least) < least:
            causes.append(invalid_value(f"{path}.{name}", probe[name], f"must be greater than or equal to {least}"))
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        causes.append(invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))


def _check_action(handler: Object, path: str, causes: list[Cause]) -> None:
    found = [name for name in _ACTIONS if name in handler]
    if not found:
        causes.append(required(path, "must specify a handler type"))
        return
    causes += [forbidden_field(f"{path}.{n}", "may not specify more than 1 handler type") for n in found[1:]]
    action = handler[found[0]]
    if found[0] == "exec" and not action.get("command"):
        causes.append(required(f"{path}.exec.command"))
    if found[0] in ("httpGet", "tcpSocket", "grpc"):
        port = action.get("port")
        if port is None:
            causes.append(required(f"{path}.{found[0]}.port"))
        elif isinstance(port, int) and not 1 <= port <= 65535:
            causes.append(invalid_value(f"{path}.{found[0]}.port", port, _PORT_RANGE))
    if found[0] == "httpGet" and action.get("scheme", "HTTP") not in ("HTTP", "HTTPS"):
        causes.append(not_supported(f"{path}.httpGet.scheme", action["scheme"], ("HTTP", "HTTPS")))


def check_pod_update(old: Object, new: Object) -> list[Cause]:
    """Allow what may change in a pod: images, a shorter deadline, further tolerations, a lower grace period of 1."""
    if old["spec"] == new["spec"]:
        return []
    before, after = copy.deepcopy(old["spec"]), copy.deepcopy(new["spec"])
    for group in ("containers", "initContainers"):
        for theirs, ours in zip(after.get(group, []), before.get(group, []), strict=False):
            ours["image"] = theirs.get("image")
            theirs.setdefault("image", None)
    added = after.get("tolerations", [])[: len(before.get("tolerations", []))]
    if added == before.get("tolerations", []):
        before["tolerations"] = after["tolerations"] = []
    before["activeDeadlineSeconds"] = after["activeDeadlineSeconds"] = None
    if before.get("terminationGracePeriodSeconds", 30) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        before["terminationGracePeriodSeconds"] = 1
    if before.get("schedulingGates"):
        # Gates may be removed one by one, never added.
        left = after.get("schedulingGates", [])
        if all(gate in before["schedulingGates"] for gate in left):
            before["schedulingGates"] = left
            if not left:
                before.pop("schedulingGates")
                after.pop("schedulingGates", None)
    if before == after:
        return []
    differing = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
    detail = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
        f"changed: {', '.join(differing)}"
    )
    return [forbidden_field("spec", detail)]
