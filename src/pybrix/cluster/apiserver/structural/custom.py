"""What the schema of one version of a custom resource does to objects: prune, default, validate. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pybrix.cluster.apiserver.failures import Cause
from pybrix.cluster.apiserver.structural.defaulting import apply_defaults
from pybrix.cluster.apiserver.structural.pruning import fresh, prune
from pybrix.cluster.apiserver.structural.rules import check_rules
from pybrix.cluster.apiserver.structural.schema import ABSENT, Data, Node, parse_schema
from pybrix.cluster.apiserver.structural.validation import BLOCKING, validate


class CustomSchema:
    """The schema of a version of a definition; its tree and its rules are made when the first object needs them.

    Args:
        schema: the `openAPIV3Schema`; None describes nothing and keeps everything.
    """

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self._schema = schema

    @functools.cached_property
    def root(self) -> Node:
        return parse_schema(self._schema)

    def prune(self, data: Data) -> list[str]:
        """Drop in place what the schema does not describe; return the paths."""
        return prune(data, self.root, is_root=True)

    def defaulted(self, data: Data) -> Data:
        """Return the object with defaults filled in and without the nulls that the schema does not allow."""
        built: Data = fresh(data)
        metadata = built.pop("metadata", None)
        apply_defaults(built, self.root)
        built["metadata"] = metadata if metadata is not None else {}
        return built

    def as_read(self, data: Data) -> Data:
        """Return an object that was stored under another schema in the form that this one gives it."""
        built: Data = fresh(data)
        self.prune(built)
        return self.defaulted(built)

    def check(self, data: Data, old: Data | None = None) -> list[Cause]:
        """Return what is wrong with an object; of an update, what was not wrong before."""
        before = ABSENT if old is None else old
        causes = validate(data, self.root, before)
        if any(cause.reason in BLOCKING for cause in causes):
            return causes
        return causes + check_rules(data, self.root, before)
