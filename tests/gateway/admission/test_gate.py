"""The gate in front of routing: who asks, what is spent, and that a failure to route costs nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from pybrix.api.config import GatewayConfiguration, IdentityConfiguration, LimitsConfiguration
from pybrix.gateway.admission.gate import Gate
from pybrix.gateway.admission.ratelimit import Charge, Limiter
from pybrix.gateway.admission.users import Absent, User
from pybrix.gateway.director import Director
from pybrix.gateway.framework.modelconfig import ConfigProfile
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Question
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.scheduling.profile import Profile
from tests.support.gateway import MovableClock, ask, facts, make_request, view_of

USERS: dict[str, User | Absent] = {"alice": User("alice", 2, 500), "zero": User("zero"), "new": Absent.NOT_READ}


def make_gate(
    *, is_trusted: bool = True, is_enabled: bool = True, unknown: Literal["401", "403", "default"] = "401"
) -> tuple[Gate, Limiter]:
    config = GatewayConfiguration(
        limits=LimitsConfiguration(is_enabled=is_enabled, unknown_user=unknown),
        identity=IdentityConfiguration(is_user_header_trusted=is_trusted),
    )
    limiter = Limiter()
    return Gate(config, lambda name, now_s: USERS.get(name, Absent.UNKNOWN), limiter), limiter


@pytest.mark.parametrize(
    ("key_user", "user", "is_trusted", "want"),
    [
        ("", "", True, ""),
        ("", "alice", True, "alice"),
        ("", "alice", False, ""),
        ("bob", "alice", True, "bob"),
        ("bob", "alice", False, "bob"),
    ],
)
def test_the_key_says_who_asks_and_the_header_only_where_it_is_trusted(
    key_user: str, user: str, is_trusted: bool, want: str
) -> None:
    gate, _ = make_gate(is_trusted=is_trusted)
    assert gate.user_of(Question("/v1/chat/completions", b"", user=user, key_user=key_user)) == want


@pytest.mark.parametrize(
    ("fields", "tokens", "expected"),
    [
        ({"max_tokens": None}, 150, 150),
        ({"max_tokens": 300}, 400, 150),
        ({"max_tokens": 10, "decode_tokens": 10}, 110, 110),
        ({"max_tokens": 300, "path": "/v1/embeddings"}, 100, 100),
        ({"max_tokens": 300, "path": "/namespaces/team/v1/responses?x=1"}, 400, 150),
    ],
    ids=["learnt", "as-asked", "short", "no-generation", "another-path"],
)
def test_a_request_spends_its_prompt_and_what_it_may_generate(
    fields: dict[str, Any], tokens: int, expected: int
) -> None:
    gate, _ = make_gate()
    charge = gate.admit(make_request(user="alice", **fields), 1000.0)
    assert isinstance(charge, Charge)
    assert (charge.tokens, charge.expected_tokens) == (tokens, expected)


@pytest.mark.parametrize(
    ("unknown", "status"), [("401", 401), ("403", 403), ("default", None)], ids=["401", "403", "default"]
)
def test_an_unknown_user_is_answered_as_configured(
    unknown: Literal["401", "403", "default"], status: int | None
) -> None:
    gate, _ = make_gate(unknown=unknown)
    said = gate.admit(make_request(user="mallory"), 1000.0)
    if isinstance(said, Refusal):
        assert (said.status, dict(said.headers())["x-error-user"]) == (status, "true")
    else:
        assert status is None
        assert dict(gate.headers(said, 1000.0))["x-ratelimit-limit-requests"] == "100" if said else False


def test_nobody_and_limits_that_are_off_cost_nothing() -> None:
    gate, limiter = make_gate()
    assert gate.admit(make_request(user=""), 1000.0) is None
    gate, limiter = make_gate(is_enabled=False)
    assert gate.admit(make_request(user="mallory"), 1000.0) is None
    assert limiter.counters == 0


@pytest.mark.parametrize("user", ["zero", "new"])
def test_zeros_and_users_that_are_being_read_have_the_default_limits(user: str) -> None:
    gate, _ = make_gate()
    charge = gate.admit(make_request(user=user), 1000.0)
    assert isinstance(charge, Charge)
    assert charge.limits == (100, 100_000)


def test_above_a_limit_the_answer_says_whose_and_when_to_come_again() -> None:
    gate, _ = make_gate()
    said = [gate.admit(make_request(user="alice", prompt_tokens=1), 1000.0) for _ in range(3)][2]
    assert isinstance(said, Refusal)
    assert said.message == "user: alice has exceeded RPM: 2"
    headers = dict(said.headers())
    assert (headers["x-error-rpm-exceeded"], headers["x-ratelimit-remaining-requests"]) == ("true", "0")
    assert 60 <= int(headers["retry-after"]) <= 61


def test_a_models_own_limit_counts_for_those_without_a_user_too() -> None:
    gate, _ = make_gate()
    profile = ConfigProfile("default", requests_per_second=1)
    assert isinstance(gate.admit(make_request(profile=profile), 1000.0), Charge)
    said = gate.admit(make_request(profile=profile), 1000.0)
    assert isinstance(said, Refusal)
    assert (said.message, said.headers()[1]) == (
        "model: m has exceeded RPS: 1",
        ("x-error-model-rps-exceeded", "true"),
    )


class Broken:
    """A strategy that fails."""

    name = "broken"
    prefers_new = False

    def score(self, *rest: object) -> Sequence[float]:
        raise RuntimeError("broken")

    def reasons(self, *rest: object) -> Sequence[str]:
        raise RuntimeError("broken")


def test_a_request_that_cannot_be_routed_after_all_costs_nothing() -> None:
    gate, limiter = make_gate()
    loads = LoadTable()
    director = Director(
        view=lambda: view_of(facts("a")),
        profile=Profile({"broken": Broken()}),
        default_strategy="broken",
        loads=loads,
        reservations=Reservations(loads, "me", lambda: "token", 10.0),
        chance=random.Random(1),
        clock=MovableClock(),
        metrics=MetricsTable(),
        gate=gate,
    )
    question = ask()
    question.key_user = "alice"
    for _ in range(5):
        with pytest.raises(RuntimeError, match="broken"):
            director.decide(question)
    assert limiter.kept == 0
    charge = gate.admit(make_request(user="alice"), 1000.0)
    assert isinstance(charge, Charge)
    assert dict(gate.headers(charge, 1000.0))["x-ratelimit-remaining-requests"] == "1"
