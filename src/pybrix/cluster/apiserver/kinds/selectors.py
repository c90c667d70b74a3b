"""Label selectors as objects hold them: reading and checking. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

from typing import Any

from pybrix.api.meta import LabelSelector, LabelSelectorRequirement
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.failures import Cause, invalid_value
from pybrix.cluster.apiserver.kinds.names import check_labels

Object = dict[str, Any]


def parse_label_selector(data: Object) -> LabelSelector:
    terms = [
        LabelSelectorRequirement(key=e.get("key", ""), operator=e.get("operator", ""), values=e.get("values", []))
        for e in data.get("matchExpressions", ())
    ]
    return LabelSelector(match_labels=data.get("matchLabels", {}), match_expressions=terms)


def check_label_selector(path: str, selector: Object) -> list[Cause]:
    """Return what is wrong with a selector; an empty one selects everything and is right."""
    causes = check_labels(f"{path}.matchLabels", selector.get("matchLabels", {}))
    try:
        compile_label_selector(parse_label_selector(selector))
    except ValueError as err:
        causes.append(invalid_value(f"{path}.matchExpressions", selector.get("matchExpressions"), str(err)))
    return causes
