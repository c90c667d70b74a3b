"""What a model's pods say of how their requests are routed: the annotation `model.aibrix.ai/config`. Pure.

    {"lockedRoutingStrategy": S, "defaultProfile": S, "profiles": {NAME: {
        "routingStrategy": S, "lockedRoutingStrategy": S, "requestsPerSecond": N,
        "routingConfig": {"promptTokensGte": N, "promptTokensLt": N, "maxTokensGte": N, "maxTokensLt": N,
                          "slos": {"ttft": seconds, "tpot": seconds, "tpat": seconds, "e2e": seconds}}}}}

Everything may be left out, and other keys are ignored: those for prefill and decode on separate pods are among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

MAX_CONFIG_CHARS = 64 * 1024
MAX_PROFILES = 256
AUTOMATIC = "auto"
"""Name by which a request asks for the profile whose hints it fits."""
DEFAULT = "default"
"""Profile of requests that ask for none, where `defaultProfile` names no other."""
_CACHED = 256

Tokens = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]


class Targets(msgspec.Struct, frozen=True):
    """What latencies a model promises, in seconds; None for no promise. The words are AIBrix's, of its GPU profiles."""

    ttft: Seconds | None = None
    """To the first token."""
    tpot: Seconds | None = None
    """For each output token after the first."""
    tpat: Seconds | None = None
    """Of the whole request, for each of its tokens, those of the prompt included."""
    e2e: Seconds | None = None
    """Of the whole request."""

    def __bool__(self) -> bool:
        return any(target is not None for target in (self.ttft, self.tpot, self.tpat, self.e2e))


class Hints(msgspec.Struct, frozen=True):
    """For which requests `auto` means a profile. `Gte` bounds belong to it, `Lt` bounds do not."""

    prompt_tokens_gte: Tokens | None = None
    prompt_tokens_lt: Tokens | None = None
    max_tokens_gte: Tokens | None = None
    max_tokens_lt: Tokens | None = None

    def fit(self, prompt_tokens: int, max_tokens: int | None) -> bool:
        """Say whether every hint holds; one on the output holds for no request that sets no limit."""
        return _within(prompt_tokens, self.prompt_tokens_gte, self.prompt_tokens_lt) and _within(
            max_tokens, self.max_tokens_gte, self.max_tokens_lt
        )

    @property
    def count(self) -> int:
        return sum(bound is not None for bound in msgspec.structs.astuple(self))


class ConfigProfile(msgspec.Struct, frozen=True):
    """One profile. Strategies are "" and `requests_per_second` is 0 where it says nothing."""

    name: str
    strategy: str = ""
    locked_strategy: str = ""
    requests_per_second: int = 0
    hints: Hints = Hints()
    targets: Targets = Targets()


class ModelConfig(msgspec.Struct, frozen=True):
    """The configuration of a model. `problem` says what is wrong with it; nothing of it counts then."""

    locked_strategy: str = ""
    default: ConfigProfile | None = None
    profiles: Mapping[str, ConfigProfile] = {}
    automatic: tuple[ConfigProfile, ...] = ()
    """Profiles with hints, in the order in which `auto` tries them."""
    problem: str = ""

    def choose(self, name: str, prompt_tokens: int, max_tokens: int | None) -> ConfigProfile | None:
        """Return the profile of a request; the default one for a name that there is none of.

        Args:
            name: what the request asks for: a name, `auto`, or "".
        """
        if name == AUTOMATIC:
            return next((each for each in self.automatic if each.hints.fit(prompt_tokens, max_tokens)), self.default)
        return self.profiles.get(name, self.default)

    def strategies(self) -> set[str]:
        """Return every strategy that is named somewhere."""
        named = {each for p in self.profiles.values() for each in (p.strategy, p.locked_strategy)}
        return (named | {self.locked_strategy}) - {""}


UNCONFIGURED = ModelConfig()


class _RoutingConfig(msgspec.Struct, rename="camel"):
    prompt_tokens_gte: Tokens | None = None
    prompt_tokens_lt: Tokens | None = None
    max_tokens_gte: Tokens | None = None
    max_tokens_lt: Tokens | None = None
    slos: Targets | None = None


class _Profile(msgspec.Struct, rename="camel"):
    routing_strategy: str | None = None
    locked_routing_strategy: str | None = None
    routing_config: _RoutingConfig | None = None
    requests_per_second: Tokens | None = None


class _Config(msgspec.Struct, rename="camel"):
    locked_routing_strategy: str | None = None
    default_profile: str | None = None
    profiles: Annotated[dict[str, _Profile], Meta(max_length=MAX_PROFILES)] | None = None


_DECODER = msgspec.json.Decoder(_Config)


@lru_cache(_CACHED)
def parse_model_config(text: str) -> ModelConfig:
    """Return the configuration that an annotation holds, "" standing for none; of a bad one only its problem."""
    if not text:
        return UNCONFIGURED
    if len(text) > MAX_CONFIG_CHARS:
        return ModelConfig(problem=f"longer than {MAX_CONFIG_CHARS} characters")
    try:
        found = _DECODER.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as err:
        return ModelConfig(problem=str(err) or type(err).__name__)
    profiles = {name: _profile(name, each) for name, each in (found.profiles or {}).items()}
    if unprintable := [name for name in profiles if not name.isprintable() or not name.isascii()]:
        return ModelConfig(problem=f"profile {unprintable[0][:64]!a}: a name is of printable ASCII characters")
    wanted = found.default_profile or ""
    if wanted and wanted not in profiles:
        return ModelConfig(problem=f"defaultProfile: there is no profile {wanted[:64]!r}")
    return ModelConfig(
        locked_strategy=(found.locked_routing_strategy or "").strip(),
        default=profiles.get(wanted or DEFAULT),
        profiles=profiles,
        automatic=tuple(sorted((p for p in profiles.values() if p.hints.count), key=_place)),
    )


def _profile(name: str, found: _Profile) -> ConfigProfile:
    routing = found.routing_config or _RoutingConfig()
    return ConfigProfile(
        name=name,
        strategy=(found.routing_strategy or "").strip(),
        locked_strategy=(found.locked_routing_strategy or "").strip(),
        requests_per_second=found.requests_per_second or 0,
        hints=Hints(routing.prompt_tokens_gte, routing.prompt_tokens_lt, routing.max_tokens_gte, routing.max_tokens_lt),
        targets=routing.slos or Targets(),
    )


def _place(profile: ConfigProfile) -> tuple[int, int, int, float, float, str]:
    """Return where `auto` tries a profile: more hints first, then higher lower bounds, then lower upper ones."""
    hints = profile.hints
    return (
        -hints.count,
        -(hints.prompt_tokens_gte or 0),
        -(hints.max_tokens_gte or 0),
        math.inf if hints.prompt_tokens_lt is None else hints.prompt_tokens_lt,
        math.inf if hints.max_tokens_lt is None else hints.max_tokens_lt,
        profile.name,
    )


def _within(value: int | None, lowest: int | None, below: int | None) -> bool:
    if value is None:
        return lowest is None and below is None
    return (lowest is None or value >= lowest) and (below is None or value < below)
