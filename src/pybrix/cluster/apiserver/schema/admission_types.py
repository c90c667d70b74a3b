"""Policies that change requests, in the notation of `shape`."""

from __future__ import annotations

MUTATION_TYPES = """
type MutatingAdmissionPolicy -- changes to requests, in CEL; a binding puts them into force
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec MutatingAdmissionPolicySpec @2 !
type MutatingAdmissionPolicySpec
  paramKind any -- not supported by this server
  matchConstraints MatchResources @2? -- which requests are changed; required
  variables [AdmissionExpression] @3 -- values that expressions read as variables.NAME
  mutations [AdmissionMutation] @4 -- the changes, one after the other
  failurePolicy string @5? -- what an evaluation that fails means: Fail (refused, the default) or Ignore
  matchConditions [AdmissionExpression] @6 key=name -- expressions that must all hold for the policy to apply
  reinvocationPolicy string @7 -- Never, or IfNeeded: once more when a later policy changed the object; required
type AdmissionMutation
  patchType string ! -- ApplyConfiguration or JSONPatch
  applyConfiguration AdmissionPatchExpression
  jsonPatch AdmissionPatchExpression
type AdmissionPatchExpression
  expression string -- CEL that makes an Object, or a list of JSONPatch
type MutatingAdmissionPolicyBinding -- puts a MutatingAdmissionPolicy into force
  apiVersion string
  kind string
  metadata ObjectMeta @1
  spec MutatingAdmissionPolicyBindingSpec @2 !
type MutatingAdmissionPolicyBindingSpec
  policyName string @1 -- the policy; required
  paramRef any -- not supported by this server
  matchResources MatchResources @3? -- narrows what the policy changes
"""
