"""The Lua that runs inside Envoy, with the words of `wire` and `replies` filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

from pybrix.envoy import replies, wire

METADATA = "pybrix"
"""Namespace of the metadata that routes, endpoints and requests carry for us."""


def _read(name: str) -> str:
    return resources.files("pybrix.envoy").joinpath("lua", name).read_text(encoding="utf-8")


def _fill(script: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        script = script.replace(f"@{name}@", word)
    return script


FALLBACK_SCRIPT = _fill(
    _read("fallback.lua"),
    {
        "CLUSTER_HEADER": wire.CLUSTER_HEADER,
        "STRATEGY_HEADER": wire.STRATEGY_HEADER,
        "NAMESPACE_HEADER": wire.NAMESPACE_HEADER,
        "FALLBACK_STRATEGY": wire.FALLBACK_STRATEGY,
        "NAMESPACE_PREFIX": wire.NAMESPACE_PREFIX,
        "BAD_BODY_HEADER": replies.BAD_BODY_HEADER,
        "NO_MODEL_HEADER": replies.NO_MODEL_HEADER,
        "NO_MODEL_BACKENDS_HEADER": replies.NO_MODEL_BACKENDS_HEADER,
        "AMBIGUOUS_MODEL_HEADER": replies.AMBIGUOUS_MODEL_HEADER,
        "NOT_JSON": json.dumps(replies.NOT_JSON),
        "MODEL_MISSING": json.dumps(replies.MODEL_MISSING),
        "MODEL_INVALID": json.dumps(replies.MODEL_INVALID),
        # These two the script completes: $NAME stands for what it knows.
        "UNKNOWN_MODEL": json.dumps(replies.unknown_model("$MODEL", "$WHERE", "$NAMES")),
        "AMBIGUOUS_MODEL": json.dumps(replies.ambiguous_model("$MODEL", "$NAMES", wire.NAMESPACE_HEADER)),
    },
)
"""Default script of the Lua filter: route by the body when the brain has not answered."""

USAGE_SCRIPT = _fill(_read("usage.lua"), {"METADATA": METADATA})
"""Script of model routes: find token usage in responses."""
