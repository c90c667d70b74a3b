"""Which children an owner controls, takes in, or lets go: by controller UID within the namespace. Pure.

The rules are those of upstream's `controller_ref_manager`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from pybrix.api.meta import LabelSelector, Object, OwnerReference
from pybrix.api.selectors import Selector, compile_label_selector
from pybrix.runtime.actions import Patch

C = TypeVar("C", bound=Object)


@dataclass(frozen=True, slots=True)
class Claims(Generic[C]):
    """`kept` and `adopted` count as the owner's; `released` no longer match its selector."""

    kept: tuple[C, ...] = ()
    adopted: tuple[C, ...] = ()
    released: tuple[C, ...] = ()

    @property
    def owned(self) -> tuple[C, ...]:
        return self.kept + self.adopted


def selector_problem(selector: LabelSelector | None) -> str:
    """Say what is wrong with a workload's selector; empty when nothing is."""
    try:
        compiled = compile_label_selector(selector)
    except ValueError as error:
        return f"spec.selector: {error}"
    if compiled is None or not compiled.requirements:
        return "spec.selector is empty and would select every pod of the namespace"
    return ""


def compile_selector(selector: LabelSelector | None) -> Selector:
    """Return the matcher of a workload's selector.

    Raises:
        ValueError: what `selector_problem` tells.
    """
    if problem := selector_problem(selector):
        raise ValueError(problem)
    return compile_label_selector(selector) or Selector()


def claim(owner: Object, selector: Selector, candidates: Iterable[C]) -> Claims[C]:
    """Sort objects of the owner's namespace into its own, orphans to adopt, and those to release.

    An object that another controller owns is never touched, whatever its labels. An owner that is being deleted keeps
    what it has and takes in or lets go nothing.
    """
    kept: list[C] = []
    adopted: list[C] = []
    released: list[C] = []
    for child in candidates:
        if child.metadata.namespace != owner.metadata.namespace:
            continue
        holder = child.metadata.controller
        is_match = selector.matches(child.metadata.labels)
        if holder is not None:
            if holder.uid != owner.uid:
                continue
            if is_match or owner.metadata.is_terminating:
                kept.append(child)
            else:
                released.append(child)
        elif is_match and not owner.metadata.is_terminating and not child.metadata.is_terminating:
            adopted.append(child)
    return Claims(tuple(kept), tuple(adopted), tuple(released))


def claim_actions(owner: Object, claims: Claims[C]) -> tuple[Patch, ...]:
    """Return the patches that make the claims true."""
    mine = owner.owner_reference()
    patches = []
    for child in claims.adopted:
        references = [r for r in child.metadata.owner_references if r.uid != mine.uid]
        why = f"{child.kind} {child.metadata.name} matches the selector and has no controller"
        patches.append(_owner_patch(child, [*references, mine], why))
    for child in claims.released:
        references = [r for r in child.metadata.owner_references if r.uid != mine.uid]
        why = f"{child.kind} {child.metadata.name} no longer matches the selector"
        patches.append(_owner_patch(child, references, why))
    return tuple(patches)


def _owner_patch(child: Object, references: list[OwnerReference], why: str) -> Patch:
    # A merge patch replaces the list, so the version it was read at is a condition of the write.
    return Patch(
        type(child),
        child.key,
        {"metadata": {"uid": child.uid, "ownerReferences": msgspec.to_builtins(references) or None}},
        why,
        resource_version=child.metadata.resource_version,
    )
