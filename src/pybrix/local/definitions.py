"""Bring the definitions of pybrix's kinds, and the policies beside them, to what this version of pybrix says."""

from __future__ import annotations

import asyncio

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
from pybrix.api.meta import Object, find_condition
from pybrix.api.policies import render_policies
from pybrix.api.raydefinition import render_raycluster_crd
from pybrix.base.errors import UsageError
from pybrix.kube.errors import KubeError
from pybrix.kube.interface import Client, PatchType

_CLASSES: dict[str, type[Object]] = {
    cls.gvk.kind: cls
    for cls in (
        CustomResourceDefinition,
        ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding,
        MutatingAdmissionPolicy,
        MutatingAdmissionPolicyBinding,
    )
}
_SERVED_TIMEOUT_S = 30.0
_POLL_S = 0.1


async def apply_definitions(client: Client) -> int:
    """Apply all of them server-side, wait until their kinds are served, and return how many kinds there are.

    What is as it should be stays untouched, so this costs little on every start.

    Raises:
        UsageError: the API server refuses one, or does not serve a kind in time.
    """
    # Nobody else brings KubeRay's kind to a cluster of our own.
    definitions = [*render_crds(), render_raycluster_crd()]
    for document in (*definitions, *render_policies(), *render_injection_policies()):
        key = ObjectKey("", document["metadata"]["name"])
        try:
            await client.patch(_CLASSES[document["kind"]], key, document, patch_type=PatchType.APPLY, force=True)
        except KubeError as err:
            raise UsageError(f"cannot bring {document['kind']} {key} to this version: {err}") from err
    for document in definitions:
        await _wait_until_served(client, ObjectKey("", document["metadata"]["name"]))
    return len(definitions)


async def _wait_until_served(client: Client, key: ObjectKey) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _SERVED_TIMEOUT_S
    while True:
        definition = await client.get(CustomResourceDefinition, key)
        condition = find_condition(definition.status.conditions, "Established")
        if condition is not None and condition.is_true:
            return
        if loop.time() > deadline_s:
            raise UsageError(f"the API server does not serve {key} within {_SERVED_TIMEOUT_S:.0f} s")
        await asyncio.sleep(_POLL_S)
