"""Kinds that are served in another form than the one that is stored: events of `events.k8s.io`. Pure.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.cluster.apiserver.failures import Cause, invalid_value, not_supported, required

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A form whose fields have other names than the stored ones; both are at the top of the object."""

    stored_as: str
    """The resource in the store."""
    stored_version: str
    names: Mapping[str, str]
    """Field of this form -> field that is stored."""
    needed: tuple[str, ...] = ()
    """Fields that new objects of this form must have."""

    def to_stored(self, data: Data) -> Data:
        return {**{self.names.get(k, k): v for k, v in data.items()}, "apiVersion": self.stored_version}

    def from_stored(self, data: Data, api_version: str) -> Data:
        served = {stored: name for name, stored in self.names.items()}
        return {**{served.get(k, k): v for k, v in data.items()}, "apiVersion": api_version}

    def stored_path(self, path: str) -> str:
        """Return where the store has what is at a path of this form."""
        first, dot, rest = path.partition(".")
        return self.names.get(first, first) + dot + rest

    def faults_of_new(self, data: Data) -> list[Cause]:
        """Return what is wrong with a new object in this form."""
        causes = [required(name) for name in self.needed if not data.get(name)]
        note = data.get("note", "")
        if len(note) > _MAX_NOTE:
            causes.append(invalid_value("note", note[:40], f"can have at most {_MAX_NOTE} characters"))
        if data.get("type") not in ("Normal", "Warning"):
            causes.append(not_supported("type", data.get("type", ""), ("Normal", "Warning")))
        return causes


_MAX_NOTE = 1024
EVENTS = Conversion(
    "events",
    "v1",
    {
        "regarding": "involvedObject",
        "note": "message",
        "reportingController": "reportingComponent",
        "deprecatedSource": "source",
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedCount": "count",
    },
    needed=("eventTime", "reportingController", "reportingInstance", "reason", "action"),
)
