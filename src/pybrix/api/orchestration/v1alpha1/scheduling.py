"""How groups of pods are placed together: gang schedulers and topology."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pybrix.api.core import IntOrString
from pybrix.api.markers import doc
from pybrix.api.meta import Value
from pybrix.api.parts import ATOMIC_LIST, ATOMIC_MAP, LABEL_KEY_PATTERN, QUANTITY_PATTERN, array, closed, string

_TERM = closed(
    "Conditions on a node; all must hold.",
    {
        name: array(
            f"Conditions on the node's {what}.",
            closed(
                "A condition.",
                {
                    "key": string("What is compared."),
                    "operator": string("In, NotIn, Exists, DoesNotExist, Gt or Lt."),
                    "values": array("What it is compared with.", {"type": "string"}, **ATOMIC_LIST),
                },
                ("key", "operator"),
            ),
            **ATOMIC_LIST,
        )
        for name, what in (("matchExpressions", "labels"), ("matchFields", "fields"))
    },
    **ATOMIC_MAP,
)
_NODE_SELECTOR = closed(
    "Nodes that may be used.",
    {"nodeSelectorTerms": array("Alternatives; one must hold.", _TERM, **ATOMIC_LIST)},
    ("nodeSelectorTerms",),
    **ATOMIC_MAP,
)

Quantities = Annotated[
    dict[str, IntOrString],
    doc("Resources that must be free before any pod starts.", items={"pattern": QUANTITY_PATTERN}),
]


class TopologyTerm(Value, frozen=True):
    """A domain of nodes."""

    topology_key: Annotated[str, doc("Label of nodes; equal values are one domain.")] = ""


class SortRule(Value, frozen=True):
    """An order of domains."""

    resource: Annotated[str, doc("Resource that is compared.")]
    order: Annotated[str, doc("Direction of the order.")]
    dimension: Annotated[str, doc("Side of the resource that is compared.")] = ""


class PodGroupAffinity(Value, frozen=True):
    """Domains that the pods of the group share."""

    required: Annotated[list[TopologyTerm], doc("Domains that they must share.")] = []
    preferred: Annotated[list[TopologyTerm], doc("Domains that they should share.")] = []
    sort_rules: Annotated[list[SortRule], doc("Which domain is tried first.")] = []
    node_selector: Annotated[dict[str, Any] | None, doc("Nodes that may be used.", schema=_NODE_SELECTOR)] = None


class PodGroupAntiAffinity(Value, frozen=True):
    """Domains that the pods of the group do not share."""

    required: Annotated[list[TopologyTerm], doc("Domains that they must not share.")] = []
    preferred: Annotated[list[TopologyTerm], doc("Domains that they should not share.")] = []


class GodelAffinity(Value, frozen=True):
    """Placement of the group as a whole."""

    pod_group_affinity: Annotated[PodGroupAffinity | None, doc("Domains that the pods share.")] = None
    pod_group_anti_affinity: Annotated[PodGroupAntiAffinity | None, doc("Domains that the pods do not share.")] = None


class GodelSchedulingStrategy(Value, frozen=True):
    """A PodGroup of the Godel scheduler."""

    min_member: Annotated[int, doc("Pods that must fit before any starts.")] = 0
    priority_class_name: Annotated[str, doc("Priority class of the group.")] = ""
    schedule_timeout_seconds: Annotated[int | None, doc("How long the group waits for its place.")] = None
    application: Annotated[str, doc("Application that the group is counted to.")] = ""
    affinity: Annotated[GodelAffinity | None, doc("Placement of the group as a whole.")] = None


class CoschedulingStrategy(Value, frozen=True):
    """A PodGroup of the coscheduling plugin."""

    min_member: Annotated[int | None, doc("Pods that must fit before any starts.", minimum=1)] = None
    min_resources: Quantities = {}
    schedule_timeout_seconds: Annotated[int | None, doc("How long the group waits for its place.")] = None


class VolcanoSchedulingStrategy(Value, frozen=True):
    """A PodGroup of Volcano."""

    min_member: Annotated[int, doc("Pods that must fit before any starts.")] = 0
    min_task_member: Annotated[dict[str, int], doc("The same, for each task by name.")] = {}
    queue: Annotated[str, doc("Queue of the group.")] = ""
    priority_class_name: Annotated[str, doc("Priority class of the group.")] = ""
    min_resources: Quantities = {}


class SchedulingStrategy(Value, frozen=True):
    """The gang scheduler that places the pods together; one at most."""

    schema_keywords: ClassVar = {"maxProperties": 1}

    godel_scheduling_strategy: Annotated[GodelSchedulingStrategy | None, doc("Use the Godel scheduler.")] = None
    coscheduling_scheduling_strategy: Annotated[
        CoschedulingStrategy | None, doc("Use the coscheduling plugin of the Kubernetes scheduler.")
    ] = None
    volcano_scheduling_strategy: Annotated[VolcanoSchedulingStrategy | None, doc("Use Volcano.")] = None


class TopologyPolicy(Value, frozen=True):
    """Which pods share a domain of nodes."""

    key: Annotated[
        str,
        doc("Label of nodes; equal values are one domain.", minLength=1, maxLength=317, pattern=LABEL_KEY_PATTERN),
    ]
    scope: Annotated[
        str,
        doc(
            "Whose pods share a domain: all of the StormService, of a RoleSet, or of a role.",
            enum=["StormService", "RoleSet", "Role"],
        ),
    ]
    mode: Annotated[str, doc("Whether they must or should.", default="Preferred", enum=["Preferred", "Required"])] = (
        "Preferred"
    )
