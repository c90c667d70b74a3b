"""What makes a pod template another revision than the one before. Pure."""

from __future__ import annotations

from typing import Any

from pybrix.api import names
from pybrix.runtime.rollout.revisions import without_nulls


def comparable_template(template: Any) -> Any:
    """Return what makes a template a revision: all of it but the hash label, nulls and empty metadata maps."""
    plain: dict[str, Any] = without_nulls(template)
    metadata = dict(plain.get("metadata") or {})
    labels = {k: v for k, v in (metadata.pop("labels", None) or {}).items() if k != names.POD_TEMPLATE_HASH}
    metadata = {k: v for k, v in {**metadata, "labels": labels}.items() if v not in ({}, [], "")}
    return {**plain, "metadata": metadata}


def is_same_template(one: Any, other: Any) -> bool:
    return bool(comparable_template(one) == comparable_template(other))
