"""Templates inside our kinds: typed metadata, and a spec that passes through unchanged."""

from __future__ import annotations

from typing import Annotated, Any

from pybrix.api.core import IntOrString
from pybrix.api.markers import Keywords, Rule, doc
from pybrix.api.meta import Value
from pybrix.api.parts import LABELS, PERCENT_PATTERN, POD_SPEC, RAY_CLUSTER_SPEC

Amount = Annotated[IntOrString, Keywords({"minimum": 0, "pattern": PERCENT_PATTERN})]
"""A number, or a percentage such as "25%"."""


class TemplateMeta(Value, frozen=True):
    """The part of `metadata` that a template has."""

    name: Annotated[str, doc("Ignored: what is created gets its own name.")] = ""
    namespace: Annotated[str, doc("Ignored: what is created lives in the namespace of its owner.")] = ""
    creation_timestamp: Annotated[
        str | None, doc("Ignored: programs that write templates write it as null.", format="date-time")
    ] = None
    labels: Annotated[dict[str, str], doc("Labels of what is created.", schema=LABELS)] = {}
    annotations: Annotated[dict[str, str], doc("Annotations of what is created.")] = {}
    finalizers: Annotated[list[str], doc("Finalizers of what is created.")] = []


class PodTemplate(Value, frozen=True):
    """What pods are made from."""

    metadata: Annotated[TemplateMeta, doc("Labels and annotations of the pods.")] = TemplateMeta()
    spec: Annotated[dict[str, Any], doc("What the pods run, as in a Pod.", schema=POD_SPEC)] = {}


class RayClusterTemplate(Value, frozen=True):
    """What RayClusters are made from."""

    metadata: Annotated[TemplateMeta, doc("Labels and annotations of the RayClusters.")] = TemplateMeta()
    spec: Annotated[dict[str, Any], doc("Spec of a RayCluster (`ray.io/v1`).", schema=RAY_CLUSTER_SPEC)] = {}


def ray_template_problem(template: RayClusterTemplate) -> str:
    """Say what a RayCluster cannot do without and its template lacks; empty when nothing."""
    head = template.spec.get("headGroupSpec")
    if not isinstance(head, dict) or not isinstance(head.get("template"), dict):
        return "spec.template.spec.headGroupSpec.template is missing: a RayCluster has a head"
    return ""


_LABELS = "self.template.metadata.labels"
_HAS_LABELS = f"has(self.template.metadata) && has({_LABELS})"
_SELECTOR = "has(self.selector) && has(self.template)"
SELECTOR_FINDS_ITS_OWN: tuple[Rule, ...] = (
    Rule(
        f"!({_SELECTOR}) || (has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) || "
        "(has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",
        "selector must name at least one label; an empty one would mean everything in the namespace",
        ".selector",
    ),
    Rule(
        f"!({_SELECTOR}) || !has(self.selector.matchLabels) || self.selector.matchLabels.all(k, {_HAS_LABELS} && "
        f"k in {_LABELS} && {_LABELS}[k] == self.selector.matchLabels[k])",
        "selector.matchLabels must match template.metadata.labels; otherwise it finds nothing of what is created",
        ".selector",
    ),
    Rule(
        f"!({_SELECTOR}) || !has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, "
        f"e.operator == 'In' ? {_HAS_LABELS} && e.key in {_LABELS} && has(e.values) && {_LABELS}[e.key] in e.values : "
        f"e.operator == 'NotIn' ? !({_HAS_LABELS}) || !(e.key in {_LABELS}) || !has(e.values) || "
        f"!({_LABELS}[e.key] in e.values) : "
        f"e.operator == 'Exists' ? {_HAS_LABELS} && e.key in {_LABELS} : "
        f"!({_HAS_LABELS}) || !(e.key in {_LABELS}))",
        "selector.matchExpressions must match template.metadata.labels; otherwise it finds nothing of what is created",
        ".selector",
    ),
)
"""Rules on a spec that has `selector` and `template`."""

SELECTOR_IS_IMMUTABLE = Rule(
    "self == oldSelf", "selector cannot change: what was created under the old one would be lost. Make a new object"
)


class RollingUpdate(Value, frozen=True):
    """How many may be missing or extra during an update."""

    max_unavailable: Annotated[Amount | None, doc("Most that may be missing: a number or a percentage.")] = None
    max_surge: Annotated[Amount | None, doc("Most that may be extra: a number or a percentage.")] = None


class DisruptionTolerance(Value, frozen=True):
    """How much may be missing through disruptions."""

    max_unavailable: Annotated[Amount | None, doc("Most that may be missing: a number or a percentage.")] = None
