"""Conditions of our kinds' status, in the two shapes that are on the wire."""

from __future__ import annotations

from typing import Annotated

from pybrix.api.markers import Keywords, doc
from pybrix.api.meta import Value
from pybrix.api.parts import LABEL_KEY_PATTERN

Time = Annotated[str, Keywords({"format": "date-time"})]
"""RFC 3339 text."""
Int64 = Annotated[int, Keywords({"format": "int64"})]


class StandardCondition(Value, frozen=True):
    """One aspect of an object's state (`metav1.Condition`)."""

    # A server requires all but `observedGeneration`, so these have no default that would be left out.
    type: Annotated[str, doc("What is judged, such as Ready.", maxLength=316, pattern=LABEL_KEY_PATTERN)]
    status: Annotated[str, doc("True, False or Unknown.", enum=["True", "False", "Unknown"])]
    reason: Annotated[
        str,
        doc(
            "Why, in one CamelCase word.",
            minLength=1,
            maxLength=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        ),
    ]
    message: Annotated[str, doc("Why, in a sentence.", maxLength=32768)]
    last_transition_time: Annotated[Time | None, doc("When the status last changed.", required=True)] = None
    observed_generation: Annotated[Int64, doc("`metadata.generation` that the judgement is about.", minimum=0)] = 0

    @property
    def is_true(self) -> bool:
        return self.status == "True"


class RolloutCondition(Value, frozen=True):
    """One aspect of an object's state, in the shape of older workload kinds; reasons may be any text."""

    type: Annotated[str, doc("What is judged, such as Ready or Progressing.")]
    status: Annotated[str, doc("True, False or Unknown.")]
    reason: Annotated[str, doc("Why, in a word.")] = ""
    message: Annotated[str, doc("Why, in a sentence.")] = ""
    last_transition_time: Annotated[Time | None, doc("When the status last changed.")] = None
    last_update_time: Annotated[Time | None, doc("When the condition was last written.")] = None
    last_update_micro_time: Annotated[Time | None, doc("When the condition was last written, to the microsecond.")] = (
        None
    )
    observed_generation: Annotated[Int64, doc("`metadata.generation` that the judgement is about.", minimum=0)] = 0

    @property
    def is_true(self) -> bool:
        return self.status == "True"


STANDARD_CONDITIONS = doc("The latest judgements of the object's state, one per type.", map_keys=["type"])
"""For a field `conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS]`."""
OBSERVED_GENERATION = doc("`metadata.generation` that this status is about.", minimum=0)
