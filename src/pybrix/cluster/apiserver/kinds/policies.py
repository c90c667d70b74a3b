"""ValidatingAdmissionPolicies and their bindings: what is refused. Pure."""

from __future__ import annotations

import re
from typing import Any

from pybrix.cluster.apiserver.failures import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from pybrix.cluster.apiserver.structural.cel import CelError, compile_expression

Object = dict[str, Any]
EXPRESSION_VARIABLES = ("object", "oldObject", "request", "params", "namespaceObject", "variables")
"""Names that the expressions of a policy may use."""
_OPERATIONS = ("*", "CREATE", "UPDATE", "DELETE", "CONNECT")
_ACTIONS = ("Deny", "Warn", "Audit")
_REASONS = ("Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_policy(data: Object) -> list[Cause]:
    """Return what is wrong with a policy; what this server does not evaluate is refused, not passed over."""
    spec = data["spec"]
    causes: list[Cause] = []
    if spec.get("failurePolicy", "Fail") not in ("Fail", "Ignore"):
        causes.append(not_supported("spec.failurePolicy", spec["failurePolicy"], ("Fail", "Ignore")))
    if spec.get("paramKind"):
        causes.append(forbidden_field("spec.paramKind", "this server evaluates policies without parameters only"))
    if spec.get("auditAnnotations"):
        causes.append(forbidden_field("spec.auditAnnotations", "this server has no audit log"))
    match = spec.get("matchConstraints")
    if not match:
        causes.append(required("spec.matchConstraints"))
    else:
        causes += check_match(match, "spec.matchConstraints")
        if not match.get("resourceRules"):
            causes.append(required("spec.matchConstraints.resourceRules"))
    if not spec.get("validations"):
        causes.append(required("spec.validations", "validations must contain at least one item"))
    for name in ("matchConditions", "variables"):
        causes += check_named(spec.get(name, []), f"spec.{name}", "bool" if name == "matchConditions" else "")
    for index, validation in enumerate(spec.get("validations", [])):
        causes += _check_validation(validation, f"spec.validations[{index}]")
    return causes


def check_binding(data: Object) -> list[Cause]:
    spec = data["spec"]
    actions = spec.get("validationActions", [])
    causes = [] if spec.get("policyName") else [required("spec.policyName")]
    if spec.get("paramRef"):
        causes.append(forbidden_field("spec.paramRef", "this server evaluates policies without parameters only"))
    if not actions:
        causes.append(required("spec.validationActions", "at least one validation action is required"))
    for index, action in enumerate(actions):
        at = f"spec.validationActions[{index}]"
        if action not in _ACTIONS:
            causes.append(not_supported(at, action, _ACTIONS))
        elif actions.index(action) != index:
            causes.append(duplicate(at, action))
    if "Deny" in actions and "Warn" in actions:
        detail = "must not contain both Deny and Warn (repeating the same validation failure information is unhelpful)"
        causes.append(invalid_value("spec.validationActions", actions, detail))
    return causes + check_match(spec.get("matchResources") or {}, "spec.matchResources")


def check_match(match: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if match.get("matchPolicy", "Equivalent") not in ("Equivalent", "Exact"):
        causes.append(not_supported(f"{path}.matchPolicy", match["matchPolicy"], ("Equivalent", "Exact")))
    for name in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(match.get(name, [])):
            at = f"{path}.{name}[{index}]"
            causes += [
                required(f"{at}.{part}")
                for part in ("operations", "apiGroups", "apiVersions", "resources")
                if not rule.get(part)
            ]
            for number, operation in enumerate(rule.get("operations", [])):
                if operation not in _OPERATIONS:
                    causes.append(not_supported(f"{at}.operations[{number}]", operation, _OPERATIONS))
            if rule.get("scope", "*") not in ("*", "Cluster", "Namespaced"):
                causes.append(not_supported(f"{at}.scope", rule["scope"], ("Cluster", "Namespaced", "*")))
    for name in ("objectSelector", "namespaceSelector"):
        for index, term in enumerate((match.get(name) or {}).get("matchExpressions", [])):
            if term.get("operator") not in ("In", "NotIn", "Exists", "DoesNotExist"):
                at = f"{path}.{name}.matchExpressions[{index}].operator"
                causes.append(invalid_value(at, term.get("operator", ""), "not a valid selector operator"))
    return causes


def check_named(items: list[Object], path: str, expected: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, found in enumerate(items):
        name = found.get("name", "")
        if not name:
            causes.append(required(f"{path}[{index}].name"))
        elif name in seen:
            causes.append(duplicate(f"{path}[{index}].name", name))
        elif path.endswith("variables") and not _NAME.fullmatch(name):
            causes.append(invalid_value(f"{path}[{index}].name", name, "name is not a valid CEL identifier"))
        seen.add(name)
        causes += check_expression(found.get("expression", ""), f"{path}[{index}].expression", expected)
    return causes


def _check_validation(validation: Object, path: str) -> list[Cause]:
    causes = check_expression(validation.get("expression", ""), f"{path}.expression", "bool")
    if validation.get("messageExpression"):
        causes += check_expression(validation["messageExpression"], f"{path}.messageExpression", "string")
    if "\n" in validation.get("message", "").strip():
        causes.append(invalid_value(f"{path}.message", validation["message"], "message must not contain line breaks"))
    if validation.get("reason", "Invalid") not in _REASONS:
        causes.append(not_supported(f"{path}.reason", validation["reason"], _REASONS))
    return causes


def check_expression(text: str, path: str, expected: str) -> list[Cause]:
    if not text.strip():
        return [required(path, "expression is not specified")]
    try:
        compile_expression(text, EXPRESSION_VARIABLES, expected)
    except CelError as err:
        return [invalid_value(path, text[:500], str(err))]
    return []
