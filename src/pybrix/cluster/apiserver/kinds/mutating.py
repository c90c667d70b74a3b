"""MutatingAdmissionPolicies and their bindings: what is refused. Pure.

What this server does not evaluate is refused, not passed over: a policy that is there is one that works.
"""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.failures import Cause, forbidden_field, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.policies import EXPRESSION_VARIABLES, check_match, check_named
from pybrix.cluster.apiserver.structural.cel import CelError, Program, compile_expression
from pybrix.cluster.apiserver.structural.constructors import as_maps

Object = dict[str, Any]
APPLY_CONFIGURATION = "ApplyConfiguration"
JSON_PATCH = "JSONPatch"
REINVOCATIONS = ("IfNeeded", "Never")
_PARTS = {APPLY_CONFIGURATION: "applyConfiguration", JSON_PATCH: "jsonPatch"}
_RESULTS = {APPLY_CONFIGURATION: ("MAP", "DYN"), JSON_PATCH: ("LIST", "DYN")}
_OPERATIONS = ("*", "CREATE", "UPDATE", "CONNECT")
_NO_PARAMETERS = "this server evaluates policies without parameters only"


def compile_mutation(mutation: Object) -> tuple[str, Program]:
    """Return the type of a mutation and its expression, compiled.

    Raises:
        CelError: it does not compile, or makes something else.
    """
    kind = mutation["patchType"]
    text = mutation[_PARTS[kind]]["expression"]
    program = compile_policy_expression(text)
    result = program.compiled.return_type().name().partition("<")[0]
    if result not in _RESULTS[kind]:
        wanted = "Object" if kind == APPLY_CONFIGURATION else "array of JSONPatch"
        raise CelError(f"must evaluate to {wanted}, not {result.lower()}")
    return kind, program


def compile_policy_expression(text: str, expected: str = "") -> Program:
    """Compile an expression of a mutating policy, which may construct objects. Raises `CelError`."""
    compiled = compile_expression(as_maps(text), EXPRESSION_VARIABLES, expected)
    return Program(text, compiled.variables, compiled.compiled)


def check_mutating_policy(data: Object) -> list[Cause]:
    spec = data["spec"]
    causes: list[Cause] = []
    if spec.get("failurePolicy", "Fail") not in ("Fail", "Ignore"):
        causes.append(not_supported("spec.failurePolicy", spec["failurePolicy"], ("Fail", "Ignore")))
    if spec.get("paramKind"):
        causes.append(forbidden_field("spec.paramKind", _NO_PARAMETERS))
    if not spec.get("reinvocationPolicy"):
        causes.append(required("spec.reinvocationPolicy"))
    elif spec["reinvocationPolicy"] not in REINVOCATIONS:
        causes.append(not_supported("spec.reinvocationPolicy", spec["reinvocationPolicy"], REINVOCATIONS))
    causes += _check_constraints(spec.get("matchConstraints"))
    if not spec.get("mutations"):
        causes.append(required("spec.mutations", "mutations must contain at least one item"))
    causes += check_named(spec.get("matchConditions", []), "spec.matchConditions", "bool")
    causes += _check_variables(spec.get("variables", []))
    for index, mutation in enumerate(spec.get("mutations", [])):
        causes += _check_mutation(mutation, f"spec.mutations[{index}]")
    return causes


def check_mutating_binding(data: Object) -> list[Cause]:
    spec = data["spec"]
    causes = [] if spec.get("policyName") else [required("spec.policyName")]
    if spec.get("paramRef"):
        causes.append(forbidden_field("spec.paramRef", _NO_PARAMETERS))
    return causes + check_match(spec.get("matchResources") or {}, "spec.matchResources")


def _check_constraints(match: Any) -> list[Cause]:
    path = "spec.matchConstraints"
    if not match:
        return [required(path)]
    causes = check_match(match, path)
    if not match.get("resourceRules"):
        causes.append(required(f"{path}.resourceRules"))
    for index, rule in enumerate(match.get("resourceRules", [])):
        at = f"{path}.resourceRules[{index}]"
        for number, operation in enumerate(rule.get("operations", [])):
            if operation == "DELETE":
                causes.append(not_supported(f"{at}.operations[{number}]", operation, _OPERATIONS))
        for number, resource in enumerate(rule.get("resources", [])):
            part = resource.partition("/")[2]
            if part not in ("", "*", "status"):
                detail = f"this server changes objects and their status; not {part}"
                causes.append(invalid_value(f"{at}.resources[{number}]", resource, detail))
    return causes


def _check_variables(variables: list[Object]) -> list[Cause]:
    # The names as for other policies; the expressions may construct objects.
    causes = check_named([{**v, "expression": "true"} for v in variables], "spec.variables", "")
    for index, variable in enumerate(variables):
        causes += _check(variable.get("expression", ""), f"spec.variables[{index}].expression")
    return causes


def _check_mutation(mutation: Object, path: str) -> list[Cause]:
    kind = mutation.get("patchType", "")
    if kind not in _PARTS:
        return [not_supported(f"{path}.patchType", kind, tuple(_PARTS))]
    causes = [
        forbidden_field(f"{path}.{part}", f"must not be set when patchType is {kind}")
        for other, part in _PARTS.items()
        if other != kind and mutation.get(part)
    ]
    at = f"{path}.{_PARTS[kind]}"
    if not mutation.get(_PARTS[kind]):
        return [*causes, required(at, f"must be set when patchType is {kind}")]
    text = mutation[_PARTS[kind]].get("expression", "")
    if not text.strip():
        return [*causes, required(f"{at}.expression", "expression is not specified")]
    try:
        compile_mutation(mutation)
    except CelError as err:
        causes.append(invalid_value(f"{at}.expression", text[:500], str(err)))
    return causes


def _check(text: str, path: str) -> list[Cause]:
    if not text.strip():
        return [required(path, "expression is not specified")]
    try:
        compile_policy_expression(text)
    except CelError as err:
        return [invalid_value(path, text[:500], str(err))]
    return []
