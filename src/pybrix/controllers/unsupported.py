"""Fields that the API takes and that change nothing: one table, and the condition that tells of them. Pure.

    status.conditions = with_unsupported(status.conditions, StandardCondition, adapter, now)

While such a field is set to something other than its default, the object has the condition `UnsupportedField`, True,
with a sentence for each; otherwise it has no such condition. A controller that begins to honour a field takes its row
out of the table.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from pybrix.api.conditions import RolloutCondition, StandardCondition
from pybrix.api.markers import CustomResource
from pybrix.api.meta import find_condition, set_condition
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.api.orchestration.v1alpha1.podset import PodSet
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.orchestration.v1alpha1.roleset import RoleSet
from pybrix.api.orchestration.v1alpha1.stormservice import StormService

CONDITION = "UnsupportedField"
REASON = "FieldHasNoEffect"
MOST_TOLD = 10
"""Sentences in one message; the rest is counted."""

C = TypeVar("C", StandardCondition, RolloutCondition)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A field that is set and has no effect."""

    path: str
    """As people write it, such as `spec.roles[0].template.metadata.name`."""
    sentence: str

    def __str__(self) -> str:
        return f"{self.path} has no effect: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Row:
    """A field of a kind; `[]` in the path stands for every item of a list."""

    path: str
    sentence: str


def _template(path: str, children: str) -> tuple[Row, ...]:
    """Return the two fields of a template's metadata that cannot mean anything."""
    return (
        Row(f"{path}.metadata.name", f"each of the {children} gets a name of its own"),
        Row(f"{path}.metadata.namespace", f"the {children} live in the namespace of this object"),
    )


_STATEFUL = "pods get lasting names and indexes by the field stateful of their role"

TABLE: dict[type[CustomResource], tuple[Row, ...]] = {
    StormService: (
        Row("spec.stateful", _STATEFUL),
        *_template("spec.template", "RoleSets"),
        *_template("spec.template.spec.roles[].template", "pods"),
    ),
    RoleSet: _template("spec.roles[].template", "pods"),
    PodSet: (Row("spec.stateful", _STATEFUL), *_template("spec.template", "pods")),
    KVCache: (
        Row("spec.mode", "the annotation kvcache.orchestration.aibrix.ai/backend says what kind of cache runs"),
        *_template("spec.cache.template", "pods"),
        Row("spec.watcher.image", "the controller publishes the members itself; REDIS_DATABASE in env counts"),
        Row(
            "spec.metadata.etcd.runtime.template.spec",
            "members of an etcd are started as one cluster; image, env and resources are taken",
        ),
        *_template("spec.metadata.redis.runtime.template", "pods"),
    ),
    RayClusterReplicaSet: _template("spec.template", "RayClusters"),
    RayClusterFleet: _template("spec.template", "RayClusters"),
}
"""All fields that have no effect, by kind. A kind without any is not in it."""


def unsupported_fields(obj: CustomResource) -> list[Unsupported]:
    """Return what is set and has no effect, in the order of the table."""
    rows = TABLE.get(type(obj), ())
    return [Unsupported(path, row.sentence) for row in rows for path in _find(obj, row.path.split("."))]


def with_unsupported(conditions: Sequence[C], shape: type[C], obj: CustomResource, now: str) -> list[C]:
    """Return the conditions with `UnsupportedField` as the object's spec has it: True, or not there.

    Args:
        shape: the class of the conditions, for a list that is empty.
        now: RFC 3339, for a condition that is new.
    """
    found = unsupported_fields(obj)
    if not found:
        return [condition for condition in conditions if condition.type != CONDITION]
    told = [str(field) for field in found[:MOST_TOLD]]
    if len(found) > MOST_TOLD:
        told.append(f"and {len(found) - MOST_TOLD} more")
    new = shape(
        type=CONDITION,
        status="True",
        reason=REASON,
        message="; ".join(told),
        observed_generation=obj.metadata.generation,
    )
    return set_condition(conditions, new, now)


def has_unsupported(conditions: Sequence[C]) -> bool:
    """Say whether the condition is told already; an Event belongs to the moment when it is not yet."""
    return find_condition(conditions, CONDITION) is not None


def _find(value: Any, path: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Yield where the field at `path` below `value` differs from its default."""
    (name, *rest), is_list = path, path[0].endswith("[]")
    name = name.removesuffix("[]")
    here = f"{prefix}.{name}".removeprefix(".")
    field = _fields(value.__class__)[name]
    inner = getattr(value, field.name)
    if is_list:
        for number, item in enumerate(inner):
            yield from _find(item, rest, f"{here}[{number}]")
    elif inner is None:
        return
    elif rest:
        yield from _find(inner, rest, here)
    elif inner != field.default:
        yield here


@functools.cache
def _fields(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return the fields of a class by their names on the wire."""
    return {field.encode_name: field for field in msgspec.structs.fields(cls)}
