"""Decide whether a workload must be told that it has no sidecar. Pure.

The sidecar is put into a manifest before it is stored, by the API server's policies or by `pybrix inject`. Nothing is
mended here: a controller that changed workloads would fight whoever applies them.
"""

from __future__ import annotations

from pybrix.api.meta import Object
from pybrix.api.sidecar import CONTAINER, INJECTION, lacks_sidecar
from pybrix.runtime.actions import Emit, Plan

REASON = "SidecarNotInjected"


def plan(obj: Object) -> Plan:
    """Return the Event about a workload that asks for the sidecar and lacks it; nothing otherwise."""
    if obj.metadata.is_terminating or not lacks_sidecar(obj.to_dict()):
        return Plan()
    return Plan((Emit(obj, REASON, sentence(obj.gvk.kind), type="Warning"),))


def sentence(kind: str) -> str:
    """Return what people read in the Event."""
    return (
        f"{INJECTION} is set, and a pod template of this {kind} has no container {CONTAINER}: no adapter can be loaded "
        "through it. This API server does not inject it: apply the output of `pybrix inject -f FILE`, or install the "
        "MutatingAdmissionPolicies where they are served and apply the manifest again"
    )


def may_matter(old: Object, new: Object) -> bool:
    """Let changes through that can change the answer: of the spec and of annotations, not of the status."""
    return old.metadata.generation != new.metadata.generation or old.metadata.annotations != new.metadata.annotations
