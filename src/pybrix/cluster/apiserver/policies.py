"""ValidatingAdmissionPolicies: rules over requests, for what a schema cannot say. Pure; reads the store it is given.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.failures import failure, qualified
from pybrix.cluster.apiserver.kinds.policies import EXPRESSION_VARIABLES
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.structural.cel import CelError, Program, compile_expression, plain
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store

Data = dict[str, Any]
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_EVERYONE = {"username": "system:admin", "groups": ["system:masters", "system:authenticated"]}


@dataclass(frozen=True, slots=True)
class Change:
    """What a request is about to do. `new` is None for a deletion, `old` for a creation."""

    served: ResourceType
    operation: str
    key: ObjectKey
    new: Data | None
    old: Data | None
    subresource: str = ""
    is_dry_run: bool = False


@dataclass(slots=True)
class Verdict:
    """What the policies say beside a denial, which is an exception."""

    warnings: list[str] = field(default_factory=list)
    audits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Broken:
    """A validation that does not hold, and the reason that its denial has."""

    text: str
    reason: str


class Policies:
    """The policies of a store; compiled once per version."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._compiled: dict[ObjectKey, tuple[int, _Policy]] = {}

    def judge(self, change: Change) -> Verdict:
        """Evaluate every policy that is bound to a request like this one.

        Raises:
            StatusError (422 unless the policy says otherwise): a policy denies it.
        """
        verdict = Verdict()
        bindings = self._store.list(BINDINGS)
        # Nobody locks the door to the policies themselves.
        if not bindings or change.served.group == "admissionregistration.k8s.io":
            return verdict
        for binding in bindings:
            spec = binding.data["spec"]
            stored = self._store.get(POLICIES, ObjectKey("", spec["policyName"]))
            if stored is None or not self._concerns(stored.data["spec"].get("matchConstraints"), change):
                continue
            if spec.get("matchResources") and not self._concerns(spec["matchResources"], change, is_binding=True):
                continue
            for broken in self._policy(stored).evaluate(self._inputs(change)):
                self._act(broken, stored.key.name, binding, change, verdict)
        return verdict

    def _policy(self, stored: Stored) -> _Policy:
        known = self._compiled.get(stored.key)
        if known is None or known[0] != stored.revision:
            known = (stored.revision, _Policy(stored.data["spec"]))
            self._compiled[stored.key] = known
        return known[1]

    def _act(self, broken: _Broken, policy: str, binding: Stored, change: Change, verdict: Verdict) -> None:
        actions = binding.data["spec"].get("validationActions", ())
        named = f"ValidatingAdmissionPolicy '{policy}' with binding '{binding.key.name}'"
        if "Deny" in actions:
            served = change.served
            resource = qualified(served.plural, served.group)
            message = f'{resource} "{change.key.name}" is forbidden: {named} denied request: {broken.text}'
            details = {
                "name": change.key.name,
                "group": served.group,
                "kind": served.plural,
                "causes": [{"message": broken.text}],
            }
            raise failure(_CODES[broken.reason], broken.reason, message, details)
        if "Warn" in actions:
            verdict.warnings.append(f"Validation failed for {named}: {broken.text}")
        if "Audit" in actions:
            verdict.audits.append(f"{named}: {broken.text}")

    def _concerns(self, match: Any, change: Change, *, is_binding: bool = False) -> bool:
        if not isinstance(match, Mapping):
            return False
        rules = match.get("resourceRules") or ()
        if any(_matches(rule, change) for rule in match.get("excludeResourceRules") or ()):
            return False
        # A binding without rules narrows nothing.
        if not any(_matches(rule, change) for rule in rules) and (rules or not is_binding):
            return False
        about = [o for o in (change.new, change.old) if o is not None]
        if not any(_selects(match.get("objectSelector"), o["metadata"].get("labels")) for o in about):
            return False
        if not match.get("namespaceSelector"):
            return True
        if change.served.storage == "namespaces":
            return any(_selects(match["namespaceSelector"], o["metadata"].get("labels")) for o in about)
        namespace = self._namespace(change)
        return namespace is None or _selects(match["namespaceSelector"], namespace["metadata"].get("labels"))

    def _namespace(self, change: Change) -> Data | None:
        if not change.served.is_namespaced:
            return None
        stored = self._store.get("namespaces", ObjectKey("", change.key.namespace))
        return None if stored is None else stored.data

    def _inputs(self, change: Change) -> Data:
        served = change.served
        kind = {"group": served.group, "version": served.version, "kind": served.kind}
        resource = {"group": served.group, "version": served.version, "resource": served.plural}
        request = {
            "kind": kind,
            "resource": resource,
            "subResource": change.subresource,
            "requestKind": kind,
            "requestResource": resource,
            "requestSubResource": change.subresource,
            "name": change.key.name,
            "namespace": change.key.namespace,
            "operation": change.operation,
            "userInfo": _EVERYONE,
            "dryRun": change.is_dry_run,
        }
        return {
            "object": plain(change.new),
            "oldObject": plain(change.old),
            "request": request,
            "params": None,
            "namespaceObject": plain(self._namespace(change)),
        }


class _Policy:
    """A policy with its expressions compiled. A stored one compiles: what does not was refused."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._is_fatal = spec.get("failurePolicy", "Fail") == "Fail"
        self._conditions = [(c["name"], _compile(c["expression"], "bool")) for c in spec.get("matchConditions") or ()]
        self._variables = [(v["name"], _compile(v["expression"])) for v in spec.get("variables") or ()]
        self._validations = [
            (
                v,
                _compile(v["expression"], "bool"),
                _compile(v["messageExpression"], "string") if v.get("messageExpression") else None,
            )
            for v in spec.get("validations") or ()
        ]

    def evaluate(self, inputs: Data) -> Sequence[_Broken]:
        """Return the validations that do not hold; errors are among them unless the policy ignores failures."""
        values = {**inputs, "variables": {}}
        errors: list[str] = []
        for name, condition in self._conditions:
            try:
                if condition.evaluate(values) is not True:
                    return ()
            except CelError as err:
                errors.append(f"match condition {name!r} resulted in error: {err}")
        if errors:
            return self._failures(errors)
        unknown: dict[str, str] = {}
        for name, variable in self._variables:
            try:
                values["variables"][name] = variable.evaluate(values)
            except CelError as err:
                # Only the expressions that need it fail.
                unknown[name] = str(err)
        broken: list[_Broken] = []
        for validation, program, message in self._validations:
            try:
                holds = program.evaluate(values)
            except CelError as err:
                why = next(
                    (f"{text} (variable {name})" for name, text in unknown.items() if name in str(err)), str(err)
                )
                broken += self._failures([f"expression '{program.text}' resulted in error: {why}"])
                continue
            if holds is not True:
                broken.append(_Broken(_message(validation, message, values), validation.get("reason") or "Invalid"))
        return broken

    def _failures(self, errors: Sequence[str]) -> list[_Broken]:
        return [_Broken(text, "Invalid") for text in errors] if self._is_fatal else []


def _compile(text: str, expected: str = "") -> Program:
    return compile_expression(text, EXPRESSION_VARIABLES, expected)


def _message(validation: Mapping[str, Any], message: Program | None, values: Data) -> str:
    usual = str(validation.get("message") or f"failed expression: {' '.join(validation['expression'].split())}")
    if message is None:
        return usual
    try:
        text = message.evaluate(values)
    except CelError:
        return usual
    return text.strip() if isinstance(text, str) and text.strip() and "\n" not in text.strip() else usual


def _matches(rule: Mapping[str, Any], change: Change) -> bool:
    served = change.served

    def has(name: str, word: str) -> bool:
        listed = rule.get(name) or ()
        return "*" in listed or word in listed

    names = rule.get("resourceNames") or ()
    scope = rule.get("scope") or "*"
    return (
        has("operations", change.operation)
        and has("apiGroups", served.group)
        and has("apiVersions", served.version)
        and any(_is_resource(r, served.plural, change.subresource) for r in rule.get("resources") or ())
        and (not names or change.key.name in names)
        and scope in ("*", "Namespaced" if served.is_namespaced else "Cluster")
    )


def _is_resource(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return (
        resource in ("*", plural)
        and part in (("*", subresource) if "/" in pattern else ("",))
        and (bool(part) or not subresource)
    )


def _selects(selector: Any, labels: Mapping[str, str] | None) -> bool:
    if not selector:
        return True
    compiled = compile_label_selector(msgspec.convert(selector, LabelSelector))
    return compiled is None or compiled.matches(dict(labels or {}))
