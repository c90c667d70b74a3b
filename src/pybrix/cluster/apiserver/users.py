"""Who sends a request. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """A user, service account or component; `extra` says more about the credential."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """Return the `UserInfo` that reviews answer and that policies read."""
        info: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        if self.extra:
            info["extra"] = {name: list(values) for name, values in self.extra.items()}
        return info


SYSTEM = User("system:admin", ("system:masters", "system:authenticated"))
"""The cluster itself: what its own parts write in the process."""
