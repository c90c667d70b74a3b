"""How an object is named: the one place that says so.

Objects of the API are addressed by `ObjectKey`. Live state (endpoints, in-flight counts, prefix ownership,
expectations) is keyed by `Uid`: a deleted and recreated pod, or a pod of the same name in another namespace,
is another pod. A bare pod name is never a key.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

Uid = NewType("Uid", str)
"""`metadata.uid`: unique over time and namespaces."""


class ObjectKey(NamedTuple):
    """Namespace and name of an object; the namespace is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @classmethod
    def parse(cls, text: str) -> ObjectKey:
        """Parse what `str()` prints: `namespace/name`, or `name` for a cluster-scoped object.

        Raises:
            ValueError: more than one slash, or an empty part.
        """
        parts = text.split("/")
        if not all(parts) or len(parts) > 2:
            raise ValueError(f"{text!r} is not namespace/name")
        return cls(parts[0], parts[1]) if len(parts) == 2 else cls("", parts[0])
