"""Check one object as the embedded API server checks it when it is created, strictly. Pure.

The checks are the server's own functions, in the server's order. What differs is only that here nothing stops at the
first mistake: a value of the wrong type is taken out, and what remains is checked again.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver import admission
from pybrix.cluster.apiserver.failures import Cause
from pybrix.cluster.apiserver.kinds.defaults import default_object
from pybrix.cluster.apiserver.kinds.names import check_dns_label
from pybrix.cluster.apiserver.kinds.pods import check_pod_spec
from pybrix.cluster.apiserver.matching import Change
from pybrix.cluster.apiserver.policies import Policies
from pybrix.cluster.apiserver.resources import TYPES, ResourceType
from pybrix.cluster.apiserver.schema.decode import Decoded, WrongType, decode_struct
from pybrix.cluster.apiserver.schema.shape import Form, Shape
from pybrix.cluster.apiserver.structural.pruning import TooDeep
from pybrix.cluster.manifests.nodes import Node, Step, locate
from pybrix.cluster.store.store import MAX_OBJECT_BYTES
from pybrix.cluster.validate.findings import Severity
from pybrix.cluster.validate.suggestions import for_unknown_field, for_unsupported_value, for_wrong_type

Data = dict[str, Any]
_MAX_WRONG_TYPES = 20
_MAX_UNKNOWN = 50
_NOW = "1970-01-01T00:00:00Z"
_UID = "00000000-0000-0000-0000-000000000000"
_NAMES = {
    "FieldValueRequired": "missing",
    "FieldValueTypeInvalid": "wrong-type",
    "FieldValueNotSupported": "unsupported-value",
    "FieldValueDuplicate": "duplicate-value",
    "FieldValueForbidden": "forbidden",
    "FieldValueTooLong": "too-long",
    "FieldValueTooMany": "too-long",
}
_MISSING = object()
_LEADING_PATH = re.compile(r"((?:metadata|spec)[^\s:]*): ")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an object, at a field path."""

    rule: str
    path: str
    message: str
    remedy: str = ""
    severity: Severity = Severity.ERROR


def check_object(served: ResourceType, node: Node, policies: Policies) -> Iterator[Fault]:
    """Yield what a server would refuse an object for, and what it would warn about.

    Args:
        served: the object's kind.
        node: the object, as it stands in a text.
        policies: admission policies in force.
    """
    data = node.to_value()
    refused: set[str] = set()
    for fault in _refusals(served, data, node, policies):
        refused.add(fault.path)
        yield fault
    for fault in check_pod_specs(served.shape, data, node):
        if fault.path not in refused:
            yield fault


def _refusals(served: ResourceType, data: Any, node: Node, policies: Policies) -> Iterator[Fault]:
    decoded, wrong = _decode(functools.partial(admission.decode_fields, served), data, node)
    yield from wrong
    if decoded is None:
        return
    # What is missing because it was taken out is not missing.
    removed = tuple(fault.path for fault in wrong)
    yield from _unknown_fields(served, node, decoded.unknown)
    for fault in _admit(served, decoded.value, policies):
        if not any(_concerns(path, fault.path) for path in removed):
            yield _with_remedy(fault, node)


def _decode(
    decode: Callable[[Any], Decoded], data: Any, node: Node, root: str = ""
) -> tuple[Decoded | None, list[Fault]]:
    """Decode as often as there are values of wrong types, each time without the last one found.

    Args:
        decode: what decodes; raises `WrongType` or `TooDeep`.
        data: what to decode.
        node: the object in the text.
        root: the path of `data` in the object.
    """
    faults: list[Fault] = []
    left = copy.deepcopy(data)
    start = len(locate(node, root).steps)
    while True:
        try:
            return decode(left), faults
        except (WrongType, TooDeep) as err:
            path, _, message = str(err).partition(": ")
            place = locate(node, _below(root, path))
            is_known = bool(message) and isinstance(err, WrongType) and place.is_exact
            remedy = for_wrong_type(place.node.value, message) if is_known else ""
            rule = "limit" if isinstance(err, TooDeep) else "wrong-type"
            faults.append(Fault(rule, _below(root, path) if message else root, message or str(err), remedy))
            if not is_known or len(faults) >= _MAX_WRONG_TYPES or not _take_out(left, place.steps[start:]):
                return None, faults


def _take_out(data: Any, steps: Sequence[Step]) -> bool:
    """Remove what has the wrong type, or the list around it, where numbers of items count; say whether it was there."""
    last_field = max((i for i, step in enumerate(steps) if isinstance(step, str)), default=None)
    if last_field is None:
        return False
    for step in steps[:last_field]:
        if isinstance(step, str):
            if not isinstance(data, dict) or step not in data:
                return False
            data = data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return False
    return isinstance(data, dict) and data.pop(steps[last_field], _MISSING) is not _MISSING


def _below(root: str, path: str) -> str:
    return path if not root else root if not path else f"{root}.{path}" if not path.startswith("[") else root + path


def _concerns(removed: str, path: str) -> bool:
    return (
        path == removed
        or removed.startswith((f"{path}.", f"{path}["))
        or path.startswith((f"{removed}.", f"{removed}["))
    )


def _unknown_fields(served: ResourceType, node: Node, paths: Sequence[str]) -> Iterator[Fault]:
    for path in sorted(paths)[:_MAX_UNKNOWN]:
        place = locate(node, path)
        remedy = for_unknown_field(served.shape, place.steps) if place.is_exact else ""
        yield Fault("unknown-field", path, "unknown field", remedy)
    if len(paths) > _MAX_UNKNOWN:
        yield Fault("unknown-field", "", f"and {len(paths) - _MAX_UNKNOWN} more unknown fields")


def _admit(served: ResourceType, data: Data, policies: Policies) -> Iterator[Fault]:
    metadata = data["metadata"]
    if not metadata.get("name"):
        if not metadata.get("generateName"):
            yield Fault("missing", "metadata.name", "Required value: name or generateName is required")
        # The rules on the rest of the object read a name.
        metadata["name"] = f"{str(metadata.get('generateName', ''))[:58]}xxxxx"
    if metadata.get("resourceVersion"):
        yield Fault("forbidden", "metadata.resourceVersion", "may not be set on objects to be created: leave it out")
    if len(msgspec.json.encode(data)) > MAX_OBJECT_BYTES:
        yield Fault("limit", "", f"larger than {MAX_OBJECT_BYTES} bytes, which no server stores")
        return
    if served.is_namespaced:
        metadata["namespace"] = metadata.get("namespace") or "default"
        # A server would not find the namespace; its name says already that there is none.
        yield from map(_fault, check_dns_label("metadata.namespace", metadata["namespace"]))
    admission.complete_new(served, data, uid=_UID, now=_NOW)
    causes = admission.faults_of_new(served, data)
    for cause in causes:
        yield _fault(cause)
    if causes:
        return
    key = ObjectKey(metadata.get("namespace", "") if served.is_namespaced else "", metadata["name"])
    for policy, binding, broken in policies.broken_by(Change(served, "CREATE", key, data, None)):
        denies = "Deny" in binding.data["spec"].get("validationActions", ())
        found = _LEADING_PATH.match(broken.text)
        yield Fault(
            "policy",
            found.group(1) if found else "",
            f"{broken.text[found.end() :] if found else broken.text} (policy {policy})",
            severity=Severity.ERROR if denies else Severity.WARNING,
        )


def _fault(cause: Cause) -> Fault:
    # The path stands before the message already.
    message = cause.message.replace(f"{cause.field} in body ", "") if cause.field else cause.message
    return Fault(_NAMES.get(cause.reason, "invalid-value"), cause.field, message)


def _with_remedy(fault: Fault, node: Node) -> Fault:
    remedy = ""
    if fault.rule == "unsupported-value":
        remedy = for_unsupported_value(fault.message)
    elif fault.rule == "wrong-type":
        place = locate(node, fault.path)
        remedy = for_wrong_type(place.node.value, fault.message) if place.is_exact else ""
    return Fault(fault.rule, fault.path, fault.message, remedy, fault.severity) if remedy else fault


def check_pod_specs(shape: Shape, value: Any, node: Node, path: str = "") -> Iterator[Fault]:
    """Yield what pods would be refused for that are made of the open pod templates within a custom resource.

    A server keeps such a template as it is, so these are warnings.
    """
    if isinstance(value, dict):
        if shape.form is Form.STRUCT and shape.is_open and "containers" in shape.fields:
            yield from _check_pod_spec(value, node, path)
            return
        for key, part in value.items():
            below = shape.item if shape.form is Form.MAP else None
            if shape.form is Form.STRUCT and key in shape.fields:
                below = shape.fields[key].shape
            if below is not None:
                yield from check_pod_specs(below, part, node, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and shape.item is not None:
        for index, part in enumerate(value):
            yield from check_pod_specs(shape.item, part, node, f"{path}[{index}]")


def _check_pod_spec(spec: Data, node: Node, path: str) -> Iterator[Fault]:
    decoded, wrong = _decode(functools.partial(decode_struct, shape=TYPES["PodSpec"]), spec, node, path)
    for fault in wrong:
        yield _warning(fault.path, f"{fault.message}: no pod can be made", fault.remedy)
    if decoded is None:
        return
    start = len(locate(node, path).steps)
    for unknown in sorted(decoded.unknown)[:_MAX_UNKNOWN]:
        place = locate(node, _below(path, unknown))
        remedy = for_unknown_field(TYPES["PodSpec"], place.steps[start:]) if place.is_exact else ""
        yield _warning(_below(path, unknown), "unknown field of a pod; it is kept, and has no effect", remedy)
    pod = {"metadata": {"name": "pod"}, "spec": decoded.value}
    default_object("Pod", pod)
    removed = tuple(fault.path for fault in wrong)
    for cause in check_pod_spec(decoded.value, path):
        if not any(_concerns(at, cause.field) for at in removed):
            yield _warning(cause.field, f"{cause.message}: no pod can be made")


def _warning(path: str, message: str, remedy: str = "") -> Fault:
    return Fault("pod-template", path, message, remedy, Severity.WARNING)
