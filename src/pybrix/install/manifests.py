"""All manifests of an installation, in the order in which they are applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.api.crds import render_crds
from pybrix.api.injectionpolicies import render_injection_policies
from pybrix.api.policies import render_policies
from pybrix.api.sidecar import DEFAULT_IMAGE
from pybrix.install.controllers import controllers
from pybrix.install.gateway import gateway
from pybrix.install.names import NAMESPACE, labels
from pybrix.install.network import network_policies
from pybrix.install.redis import redis
from pybrix.install.template import Context, If, Template, Text, Value, fill
from pybrix.kube.permissions import Permission

DEFAULT_NAMESPACE = "pybrix-system"
RELEASE_NAME = "pybrix"
_INJECTION_VERSION = Value("sidecarInjection.apiVersion")
_POD_SECURITY = "pod-security.kubernetes.io"


@dataclass(frozen=True, slots=True)
class Rights:
    """What the components do at the API server, as they say themselves."""

    controllers: tuple[Permission, ...]
    election: tuple[Permission, ...]
    gateway: tuple[Permission, ...]
    password: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """Which parts of an installation are rendered."""

    has_namespace: bool = True
    """The Namespace itself; true."""
    has_crds: bool = True
    """CustomResourceDefinitions and the admission policies beside them; true."""
    has_components: bool = True
    """Everything that runs, and what it needs; true."""


def namespace_template() -> Template:
    """Return the Namespace, in which pods are held to the restricted standard."""
    enforced = {f"{_POD_SECURITY}/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {**labels("pybrix"), **enforced}},
    }


def policy_templates() -> list[Template]:
    """Return the ValidatingAdmissionPolicies, and the MutatingAdmissionPolicies that inject the sidecar."""
    return [
        If(Value("admissionPolicies"), [_labelled(policy) for policy in render_policies()]),
        If(_INJECTION_VERSION, [_labelled(_of_installation(policy)) for policy in render_injection_policies()]),
    ]


def _labelled(policy: dict[str, Any]) -> Template:
    return {**policy, "metadata": {**policy["metadata"], "labels": labels("pybrix")}}


def _of_installation(policy: dict[str, Any]) -> dict[str, Any]:
    """Return an injection policy in the version that is asked for, with the installation's own image."""
    made = {**policy, "apiVersion": Text("admissionregistration.k8s.io/", _INJECTION_VERSION)}
    variables = policy["spec"].get("variables")
    if variables:
        made["spec"] = {**policy["spec"], "variables": [_with_image(variable) for variable in variables]}
    return made


def _with_image(variable: dict[str, str]) -> Template:
    before, found, after = variable["expression"].partition(DEFAULT_IMAGE)
    if not found:
        return variable
    repository = Value("image.repository")
    expression = If(
        Value("image.digest"),
        Text(before, repository, "@", Value("image.digest"), after),
        Text(before, repository, ":", Value("image.tag"), after),
    )
    return {**variable, "expression": expression}


def component_templates(rights: Rights) -> dict[str, list[Template]]:
    """Return everything that runs, by the name of its part."""
    return {
        "controllers": controllers(rights.controllers, rights.election),
        "gateway": gateway(rights.gateway),
        "redis": redis(rights.password),
        "networkpolicies": network_policies(),
    }


def render(
    values: Mapping[str, Any], rights: Rights, *, namespace: str, parts: Parts = Parts()
) -> list[dict[str, Any]]:
    """Return the manifests.

    Args:
        values: the whole document, as `settings.resolve` returns it.
        namespace: where the components run.
    """
    context = Context(values, {"name": RELEASE_NAME, "namespace": namespace, "service": "pybrix"})
    templates: list[Template] = []
    if parts.has_namespace:
        templates.append(namespace_template())
    if parts.has_crds:
        templates += [*render_crds(), *policy_templates()]
    if parts.has_components:
        for part in component_templates(rights).values():
            templates += part
    documents = fill(templates, context)
    assert isinstance(documents, list)
    return documents
