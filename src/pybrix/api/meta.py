"""The parts every object shares: metadata, owner references, conditions, selectors.

Structs hold the fields that pybrix reads; unknown fields are dropped on decoding, so a decoded object is never
written back whole: writes are creations or merge-patch differences (`kube.patch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import msgspec

from pybrix.api.identity import ObjectKey, Uid


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of everything on the wire that may change in memory: camelCase names, defaults omitted."""


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Base of the parts that never change in memory: the same wire form as `Wire`."""


class OwnerReference(Value, frozen=True):
    """A link from an object to what owns it; garbage collection follows `uid`."""

    # `omit_defaults` leaves out what equals its default, and a server requires these four: so they have none.
    api_version: str
    kind: str
    name: str
    uid: Uid
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Wire):
    """`metadata` of an object. Times are RFC 3339 strings, as on the wire."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: Uid = Uid("")
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []
    finalizers: list[str] = []

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, self.name)

    @property
    def controller(self) -> OwnerReference | None:
        """Return the owner reference marked `controller`, if there is one."""
        return next((ref for ref in self.owner_references if ref.controller), None)

    @property
    def is_terminating(self) -> bool:
        return self.deletion_timestamp is not None


class GroupVersionKind(msgspec.Struct, frozen=True):
    """Name of a kind and where the API serves it."""

    group: str
    version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class Object(Wire):
    """Base of every top-level kind. Subclasses set `gvk`; `api_version` and `kind` are filled in on creation."""

    gvk: ClassVar[GroupVersionKind]

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)

    def __post_init__(self) -> None:
        # The items of a list carry neither: https://kubernetes.io/docs/reference/using-api/api-concepts/
        if not self.kind:
            self.api_version, self.kind = self.gvk.api_version, self.gvk.kind

    @property
    def key(self) -> ObjectKey:
        return self.metadata.key

    @property
    def uid(self) -> Uid:
        return self.metadata.uid

    def owner_reference(self) -> OwnerReference:
        """Return the reference with which this object controls a child."""
        return OwnerReference(
            api_version=self.gvk.api_version,
            kind=self.gvk.kind,
            name=self.metadata.name,
            uid=self.metadata.uid,
            controller=True,
            block_owner_deletion=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-like form, without server-owned metadata that is unset."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Decode the JSON-like form.

        Raises:
            msgspec.ValidationError: a known field has the wrong type; the message names its path.
        """
        return msgspec.convert(data, cls)


class Condition(Value, frozen=True):
    """`metav1.Condition`, and the older shapes without `observedGeneration` (Pod, Deployment, Node)."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None
    last_probe_time: str | None = None
    last_heartbeat_time: str | None = None
    observed_generation: int | None = None

    @property
    def is_true(self) -> bool:
        return self.status == "True"


class ConditionLike(Protocol):
    """What every shape of condition has."""

    @property
    def type(self) -> str: ...

    @property
    def status(self) -> str: ...

    @property
    def last_transition_time(self) -> str | None: ...


_C = TypeVar("_C", bound=ConditionLike)


def find_condition(conditions: Sequence[_C], kind: str) -> _C | None:
    """Return the condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def set_condition(conditions: Sequence[_C], new: _C, now: str) -> list[_C]:
    """Return the list with `new` in place of the condition of its type.

    `lastTransitionTime` changes only when the status does, as `apimeta.SetStatusCondition` has it.
    """
    old = find_condition(conditions, new.type)
    since = old.last_transition_time if old is not None and old.status == new.status else now
    settled: _C = msgspec.structs.replace(cast(Any, new), last_transition_time=since or now)
    if old is None:
        return [*conditions, settled]
    return [settled if c.type == new.type else c for c in conditions]


class LabelSelectorRequirement(Value, frozen=True):
    """One expression of a selector: In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Value, frozen=True):
    """`metav1.LabelSelector`: all of `matchLabels` and all of `matchExpressions` hold."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []
