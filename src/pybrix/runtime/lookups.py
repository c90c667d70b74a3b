"""Ways to find objects in shared caches: by controller, by namespace, by label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pybrix.api.core import Namespace
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector, Object
from pybrix.kube.informer import Informer
from pybrix.runtime.claims import compile_selector, selector_problem

T = TypeVar("T", bound=Object)

# Informers may be shared with others, who have indexes of their own.
BY_HOLDER = "workloads-holder"
BY_NAMESPACE = "workloads-namespace"
BY_LABEL = "workloads-label"


def holder_values(obj: Object) -> list[str]:
    """Index by the controller's UID, or as an orphan of the namespace."""
    controller = obj.metadata.controller
    return [controller.uid if controller is not None else _orphan(obj.metadata.namespace)]


def namespace_values(obj: Object) -> list[str]:
    return [obj.metadata.namespace]


def label_values(obj: Object) -> list[str]:
    """Index by each label within the namespace."""
    return [_label(obj.metadata.namespace, name, value) for name, value in obj.metadata.labels.items()]


def index_family(keepers: Informer[Any], *children: Informer[Any]) -> None:
    """Index for `held_or_orphaned` and `who_may_adopt`: keepers by namespace, what they control by who does."""
    keepers.add_index(BY_NAMESPACE, namespace_values)
    for informer in children:
        informer.add_index(BY_HOLDER, holder_values)


def who_may_adopt(
    keepers: Informer[T], child: Object, selector_of: Callable[[T], LabelSelector | None]
) -> list[ObjectKey]:
    """Return the keepers that select an object which nobody controls. Needs the index BY_NAMESPACE."""
    if child.metadata.controller is not None:
        return []
    found = ((k.key, selector_of(k)) for k in keepers.by_index(BY_NAMESPACE, child.metadata.namespace))
    return [
        key
        for key, selector in found
        if not selector_problem(selector) and compile_selector(selector).matches(child.metadata.labels)
    ]


def held_or_orphaned(informer: Informer[T], holder: Object) -> list[T]:
    """Return what an object controls, and what nobody does in its namespace. Needs the index BY_HOLDER."""
    orphans = informer.by_index(BY_HOLDER, _orphan(holder.metadata.namespace))
    return [*informer.by_index(BY_HOLDER, holder.uid), *orphans]


def labelled(informer: Informer[T], namespace: str, selector: dict[str, str]) -> list[T]:
    """Return the objects of a namespace that have all labels of a selector, which has one. Needs BY_LABEL."""
    found = (informer.by_index(BY_LABEL, _label(namespace, k, v)) for k, v in selector.items())
    return [obj for obj in min(found, key=len) if selector.items() <= obj.metadata.labels.items()]


def is_ending(namespaces: Informer[Namespace], name: str) -> bool:
    """Say whether a namespace is being deleted or gone, so that nothing can be created in it."""
    namespace = namespaces.get(ObjectKey("", name))
    return namespace is None or namespace.metadata.is_terminating


def _orphan(namespace: str) -> str:
    # No UID contains a slash.
    return f"orphan/{namespace}"


def _label(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"
