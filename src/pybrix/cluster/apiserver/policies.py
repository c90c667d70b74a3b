"""ValidatingAdmissionPolicies: rules over requests, for what a schema cannot say. Pure; reads the store it is given.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.failures import failure, qualified
from pybrix.cluster.apiserver.kinds.policies import EXPRESSION_VARIABLES
from pybrix.cluster.apiserver.matching import ADMISSION_GROUP, Change, Matcher, PolicySource
from pybrix.cluster.apiserver.structural.cel import CelError, Program, compile_expression
from pybrix.cluster.store.history import Stored

Data = dict[str, Any]
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}


@dataclass(slots=True)
class Verdict:
    """What the policies say beside a denial, which is an exception."""

    warnings: list[str] = field(default_factory=list)
    audits: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Broken:
    """A validation that does not hold, and the reason that its denial has."""

    text: str
    reason: str


class Policies:
    """The policies of a store; compiled once per version."""

    def __init__(self, store: PolicySource) -> None:
        self._store = store
        self._matcher = Matcher(store)
        self._compiled: dict[ObjectKey, tuple[int, _Policy]] = {}

    def judge(self, change: Change) -> Verdict:
        """Evaluate every policy that is bound to a request like this one.

        Raises:
            StatusError (422 unless the policy says otherwise): a policy denies it.
        """
        verdict = Verdict()
        for policy, binding, broken in self.broken_by(change):
            self._act(broken, policy, binding, change, verdict)
        return verdict

    def broken_by(self, change: Change) -> Iterator[tuple[str, Stored, Broken]]:
        """Yield (name of the policy, binding, what is broken) of every validation that does not hold."""
        bindings = self._store.list(BINDINGS)
        # Nobody locks the door to the policies themselves.
        if not bindings or change.served.group == ADMISSION_GROUP:
            return
        for binding in bindings:
            spec = binding.data["spec"]
            stored = self._store.get(POLICIES, ObjectKey("", spec["policyName"]))
            if stored is None or not self._matcher.concerns(stored.data["spec"].get("matchConstraints"), change):
                continue
            if spec.get("matchResources") and not self._matcher.concerns(
                spec["matchResources"], change, is_binding=True
            ):
                continue
            for broken in self._policy(stored).evaluate(self._matcher.inputs(change)):
                yield stored.key.name, binding, broken

    def _policy(self, stored: Stored) -> _Policy:
        known = self._compiled.get(stored.key)
        if known is None or known[0] != stored.revision:
            known = (stored.revision, _Policy(stored.data["spec"]))
            self._compiled[stored.key] = known
        return known[1]

    def _act(self, broken: Broken, policy: str, binding: Stored, change: Change, verdict: Verdict) -> None:
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

    def evaluate(self, inputs: Data) -> Sequence[Broken]:
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
        broken: list[Broken] = []
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
                broken.append(Broken(_message(validation, message, values), validation.get("reason") or "Invalid"))
        return broken

    def _failures(self, errors: Sequence[str]) -> list[Broken]:
        return [Broken(text, "Invalid") for text in errors] if self._is_fatal else []


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
