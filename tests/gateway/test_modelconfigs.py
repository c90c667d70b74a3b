"""What is wrong with configurations is said once, and shown while it is so."""

from __future__ import annotations

import json
import random

import pytest
from structlog.testing import capture_logs

from pybrix.gateway.framework.modelconfig import parse_model_config
from pybrix.gateway.modelconfigs import ConfigProblems, problems_of
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.view.facts import ModelKey, PodFacts, read_pod
from pybrix.gateway.view.snapshot import EMPTY, apply, build_view, forget
from tests.support.gateway import make_pod

M = ModelKey("default", "m")


@pytest.fixture
def profile() -> Profile:
    return Profile(build_strategies(random.Random(1)))


def pod(config: str) -> PodFacts:
    found = read_pod(make_pod("a", annotations={"model.aibrix.ai/config": config}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("config", "want"),
    [
        pytest.param("", [], id="none"),
        pytest.param('{"lockedRoutingStrategy": "random:2,throughput"}', [], id="right"),
        pytest.param("{", ["model.aibrix.ai/config is not used: Input data was truncated"], id="no JSON"),
        pytest.param(
            json.dumps({"lockedRoutingStrategy": "pd", "profiles": {"a": {"routingStrategy": "random:x"}}}),
            [
                "model.aibrix.ai/config: routing strategy 'pd' is not used; prefill and decode on separate pods",
                "model.aibrix.ai/config: routing strategy 'random:x' is not used; the weight of random is 'x'",
            ],
            id="strategies that are none",
        ),
    ],
)
def test_problems(profile: Profile, config: str, want: list[str]) -> None:
    got = problems_of(parse_model_config(config), profile)
    assert len(got) == len(want)
    assert all(said.startswith(start) for said, start in zip(got, want, strict=True))


def test_they_are_logged_once_and_shown_until_they_are_mended(profile: Profile) -> None:
    problems = ConfigProblems(profile)
    wrong = build_view([pod("{")])
    with capture_logs() as logs:
        problems.follow(EMPTY, wrong)
        again = apply(wrong, {pod("").uid: pod("{ ")})
        problems.follow(wrong, again)
    assert [(entry["event"], entry["model"]) for entry in logs] == [("model configuration", "m")]
    assert [key for key, _ in problems] == [M]
    right = apply(again, {pod("").uid: pod("{}")})
    problems.follow(again, right)
    assert problems.of(M) == ()


def test_a_model_that_goes_takes_them_along(profile: Profile) -> None:
    problems = ConfigProblems(profile)
    wrong = build_view([pod("{")])
    problems.follow(EMPTY, wrong)
    podless = apply(wrong, {pod("{").uid: None})
    problems.follow(wrong, podless)
    problems.follow(podless, forget(podless, [M]))
    assert list(problems) == []
