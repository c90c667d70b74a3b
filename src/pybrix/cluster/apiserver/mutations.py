"""MutatingAdmissionPolicies: changes to requests before they are checked. Pure; reads the store it is given.

Policies run in the order of their bindings' names, each on what those before made of the object. A policy with
`reinvocationPolicy: IfNeeded` runs once more when a later one changed the object.
https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver import fieldsets
from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.failures import failure, qualified
from pybrix.cluster.apiserver.jsonpatch import MalformedPatch, PatchDoesNotApply, apply_json_patch
from pybrix.cluster.apiserver.kinds.mutating import JSON_PATCH, compile_mutation, compile_policy_expression
from pybrix.cluster.apiserver.matching import ADMISSION_GROUP, Change, Data, Matcher, PolicySource
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.schema.decode import WrongType
from pybrix.cluster.apiserver.schema.shape import Field, ListType
from pybrix.cluster.apiserver.structural import paths
from pybrix.cluster.apiserver.structural.cel import CelError
from pybrix.cluster.apiserver.structural.constructors import configuration, patch_operations
from pybrix.cluster.apiserver.structural.pruning import TooDeep
from pybrix.cluster.store.history import Stored

POLICIES = f"mutatingadmissionpolicies.{ADMISSION_GROUP}"
BINDINGS = f"mutatingadmissionpolicybindings.{ADMISSION_GROUP}"
Settle = Callable[[Data, Data], Data]
"""(object before, object after a patch) -> the object as its kind has it."""
_ERRORS = (CelError, MalformedPatch, PatchDoesNotApply, WrongType, TooDeep)


@dataclass(slots=True)
class _Invocation:
    """A policy by one of its bindings."""

    policy: Stored
    binding: Stored
    compiled: _Policy
    was_invoked: bool = False
    is_wanted_again: bool = False


class Mutations:
    """The mutating policies of a store; compiled once per version."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source
        self._matcher = Matcher(source)
        self._compiled: dict[ObjectKey, tuple[int, _Policy]] = {}

    def mutate(self, change: Change, settle: Settle) -> Data:
        """Return what the policies make of the object of a creation or an update.

        Raises:
            StatusError (422): a policy with `failurePolicy: Fail` cannot be evaluated, or its patch does not apply.
        """
        assert change.new is not None
        bindings = self._source.list(BINDINGS)
        if not bindings or change.served.group == ADMISSION_GROUP:
            return change.new
        invocations = [found for binding in bindings if (found := self._invocation(binding)) is not None]
        for is_again in (False, True):
            for found in invocations:
                if is_again and not found.is_wanted_again:
                    continue
                before = change.new
                change = self._invoke(found, change, settle)
                if not is_again and not is_same_json(change.new, before):
                    for earlier in invocations:
                        if earlier is not found and earlier.was_invoked and earlier.compiled.is_reinvocable:
                            earlier.is_wanted_again = True
        assert change.new is not None
        return change.new

    def _invocation(self, binding: Stored) -> _Invocation | None:
        stored = self._source.get(POLICIES, ObjectKey("", binding.data["spec"]["policyName"]))
        if stored is None:
            return None
        known = self._compiled.get(stored.key)
        if known is None or known[0] != stored.revision:
            known = (stored.revision, _Policy(stored.data["spec"]))
            self._compiled[stored.key] = known
        return _Invocation(stored, binding, known[1])

    def _invoke(self, found: _Invocation, change: Change, settle: Settle) -> Change:
        if not self._matcher.concerns(found.policy.data["spec"].get("matchConstraints"), change):
            return change
        narrowed = found.binding.data["spec"].get("matchResources")
        if narrowed and not self._matcher.concerns(narrowed, change, is_binding=True):
            return change
        try:
            if not found.compiled.applies(self._matcher.inputs(change)):
                return change
            found.was_invoked = True
            for number in range(len(found.compiled.mutations)):
                assert change.new is not None
                patched = found.compiled.patch(number, change.served, change.new, self._matcher.inputs(change))
                change = replace(change, new=settle(change.new, patched))
        except _ERRORS as err:
            if found.compiled.is_fatal:
                raise _denied(found, change, str(err)) from err
        return change


class _Policy:
    """A policy with its expressions compiled. A stored one compiles: what does not was refused."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.is_fatal = spec.get("failurePolicy", "Fail") == "Fail"
        self.is_reinvocable = spec.get("reinvocationPolicy") == "IfNeeded"
        self.mutations = [compile_mutation(mutation) for mutation in spec.get("mutations") or ()]
        self._conditions = [
            (c["name"], compile_policy_expression(c["expression"], "bool")) for c in spec.get("matchConditions") or ()
        ]
        self._variables = [(v["name"], compile_policy_expression(v["expression"])) for v in spec.get("variables") or ()]

    def applies(self, inputs: Data) -> bool:
        """Say whether all match conditions hold; one that does not decides, whatever fails beside it.

        Raises:
            CelError: a condition cannot be evaluated.
        """
        errors: list[str] = []
        for name, condition in self._conditions:
            try:
                if condition.evaluate({**inputs, "variables": {}}) is not True:
                    return False
            except CelError as err:
                errors.append(f"match condition {name!r} resulted in error: {err}")
        if errors:
            raise CelError("; ".join(errors))
        return True

    def patch(self, number: int, served: ResourceType, data: Data, inputs: Data) -> Data:
        """Return the object with one mutation made.

        Raises:
            CelError, MalformedPatch, PatchDoesNotApply
        """
        kind, program = self.mutations[number]
        values: Data = {**inputs, "variables": {}}
        unknown: dict[str, str] = {}
        for name, variable in self._variables:
            try:
                values["variables"][name] = variable.evaluate(values)
            except CelError as err:
                # Only the expressions that need it fail.
                unknown[name] = str(err)
        try:
            made = program.evaluate(values)
        except CelError as err:
            why = next((f"{text} (variable {name})" for name, text in unknown.items() if name in str(err)), str(err))
            raise CelError(f"mutation {number} resulted in error: {why}") from err
        if kind == JSON_PATCH:
            patched = apply_json_patch(data, patch_operations(made))
        else:
            patched = apply_configuration(data, configuration(made), served)
        if not isinstance(patched, dict):
            raise CelError("a patch must leave an object")
        return patched


def apply_configuration(data: Data, config: Data, served: ResourceType) -> Data:
    """Return an object with a configuration merged in, as server-side apply does.

    Raises:
        CelError: the configuration has a list or an object that merges only as a whole.
    """
    root = Field("", served.shape)
    whole = next(_atomic(config, root, ""), None)
    if whole is not None:
        raise CelError(f"may not mutate atomic arrays, maps or structs: {whole}")
    merged: Data = fieldsets.merge_applied(dict(data), config, root)
    return merged


def _atomic(value: Any, described: Field, path: str) -> Iterator[str]:
    """Yield the paths of what merges only as a whole."""
    is_whole_list = isinstance(value, list) and described.list_type is ListType.ATOMIC
    if is_whole_list or (isinstance(value, dict) and described.is_atomic):
        yield path
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _atomic(part, fieldsets.child_field(described.shape, name), paths.join(path, name))
    elif isinstance(value, list) and described.shape.item is not None:
        for index, part in enumerate(value):
            yield from _atomic(part, Field("", described.shape.item), paths.item(path, index))


def _denied(found: _Invocation, change: Change, why: str) -> Exception:
    served = change.served
    named = f"MutatingAdmissionPolicy '{found.policy.key.name}' with binding '{found.binding.key.name}'"
    resource = qualified(served.plural, served.group)
    message = f'{resource} "{change.key.name}" is forbidden: {named} denied request: {why}'
    details = {"name": change.key.name, "group": served.group, "kind": served.plural, "causes": [{"message": why}]}
    return failure(422, "Invalid", message, details)
