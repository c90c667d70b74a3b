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


def _answering(name: str) -> str:
    """Return a script that answers requests, in the words of `replies`."""
    return _fill(_read("answers.lua") + _read(name), _WORDS)


_WORDS = {
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
    "MODEL_ENTRY": json.dumps(replies.model_entry("$MODEL")),
    "ADAPTER_ENTRY": json.dumps(replies.model_entry("$MODEL", "$PARENT")),
    # These (and the entries above) the scripts complete: $NAME stands for what it knows.
    "UNKNOWN_MODEL": json.dumps(replies.unknown_model("$MODEL", "$WHERE", "$NAMES")),
    "AMBIGUOUS_MODEL": json.dumps(replies.ambiguous_model("$MODEL", "$NAMES", wire.NAMESPACE_HEADER)),
}

FALLBACK_SCRIPT = _answering("fallback.lua")
"""Default script of the Lua filter: route by the body when the brain has not answered."""

MODELS_SCRIPT = _answering("models.lua")
"""Script of the route `GET /v1/models/MODEL`."""

IDENTITY_SCRIPT = _fill(
    _read("identity.lua"),
    {
        "USER_HEADER": wire.USER_HEADER,
        "KEY_PREFIX": wire.API_KEY_PREFIX,
        "KEY_BYTES": str(wire.API_KEY_BYTES),
        "KEY_MISSING": json.dumps(replies.KEY_MISSING),
        "KEY_WRONG": json.dumps(replies.KEY_WRONG),
    },
)
"""Script of the identity filter: who has no API key goes no further."""

USAGE_SCRIPT = _fill(_read("usage.lua"), {"METADATA": METADATA})
"""Script of model routes: find token usage in responses."""
