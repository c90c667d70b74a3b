"""Definitions on every start: a first time brings them, a second time changes nothing, and old ones become new."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from pybrix.api.crds import render_crds
from pybrix.api.extensions import (
    CustomResourceDefinition,
    MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from pybrix.api.identity import ObjectKey
from pybrix.api.injectionpolicies import render_injection_policies
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.policies import render_policies
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.base.errors import UsageError
from pybrix.kube.errors import Forbidden
from pybrix.kube.interface import Client
from pybrix.local.definitions import apply_definitions
from tests.support.embedded import embedded
from tests.support.memoryapi import MemoryApi

ALL = (
    CustomResourceDefinition,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding,
)
# Of pybrix, and KubeRay's.
KINDS = len(CUSTOM_KINDS) + 1
ADAPTERS = ObjectKey("", "modeladapters.model.aibrix.ai")


async def versions(client: Client) -> dict[str, str]:
    return {
        f"{cls.gvk.kind} {obj.metadata.name}": obj.metadata.resource_version
        for cls in ALL
        for obj in (await client.list(cls)).items
    }


async def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        assert await apply_definitions(client) == KINDS
        before = await versions(client)
        assert len(before) == KINDS + len(render_policies()) + len(render_injection_policies())
        assert (await client.list(ModelAdapter)).items == []
        assert await apply_definitions(client) == KINDS
        assert await versions(client) == before


async def test_what_another_version_or_a_person_made_of_them_is_put_right(tmp_path: Path) -> None:
    async with embedded(tmp_path) as server, server.client() as client:
        await apply_definitions(client)
        wanted = (await client.get(CustomResourceDefinition, ADAPTERS)).spec
        other = copy.deepcopy(wanted["versions"])
        del other[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]
        other[0]["additionalPrinterColumns"].pop()
        patch = {"spec": {"versions": other}}
        await client.patch(CustomResourceDefinition, ADAPTERS, patch, field_manager="kubectl-edit")
        await client.delete(CustomResourceDefinition, ObjectKey("", "podsets.orchestration.aibrix.ai"))
        assert (await client.get(CustomResourceDefinition, ADAPTERS)).spec != wanted

        await apply_definitions(client)
        assert (await client.get(CustomResourceDefinition, ADAPTERS)).spec == wanted
        assert len((await client.list(CustomResourceDefinition)).items) == KINDS


async def test_a_refusal_names_the_definition() -> None:
    api = MemoryApi()
    api.fail_next("patch", Forbidden(403, "Forbidden", "no"))
    first = render_crds(["PodAutoscaler"])[0]["metadata"]["name"]
    with pytest.raises(UsageError, match=f"cannot bring CustomResourceDefinition {first} to this version: no"):
        await apply_definitions(api)
