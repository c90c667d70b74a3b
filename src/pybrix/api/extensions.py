"""The kinds that extend an API server: definitions of further kinds, and admission policies.

Only what pybrix asks of those that it applied: they are rendered as documents by `api.crds` and `api.policies`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pybrix.api.meta import Condition, GroupVersionKind, Object, Wire


class CustomResourceDefinitionStatus(Wire):
    """Whether the kind is served."""

    conditions: list[Condition] = []


class CustomResourceDefinition(Object):
    gvk: ClassVar = GroupVersionKind(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", is_namespaced=False
    )
    spec: dict[str, Any] = {}
    status: CustomResourceDefinitionStatus = msgspec.field(default_factory=CustomResourceDefinitionStatus)


class ValidatingAdmissionPolicy(Object):
    gvk: ClassVar = GroupVersionKind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        is_namespaced=False,
    )


class ValidatingAdmissionPolicyBinding(Object):
    gvk: ClassVar = GroupVersionKind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        is_namespaced=False,
    )


class MutatingAdmissionPolicy(Object):
    gvk: ClassVar = GroupVersionKind(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        is_namespaced=False,
    )


class MutatingAdmissionPolicyBinding(Object):
    gvk: ClassVar = GroupVersionKind(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        is_namespaced=False,
    )
