"""The annotation `model.aibrix.ai/config`: what is read, which profile counts, and what its strategy comes to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.decision.exchange import render_decision
from pybrix.gateway.framework.modelconfig import UNCONFIGURED, Targets, parse_model_config
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.types import Decision, Question
from pybrix.gateway.strategies.session_affinity import session_id_of
from pybrix.gateway.view.facts import ModelKey, PodFacts, read_pod
from pybrix.gateway.view.snapshot import build_view
from tests.support.gateway import World, adapter_facts, ask, make_pod, slice_facts, view_of

CONFIG = {
    "defaultProfile": "usual",
    "profiles": {
        "usual": {"routingStrategy": "least-request", "requestsPerSecond": 7},
        "quick": {"routingStrategy": "random", "routingConfig": {"slos": {"ttft": 0.5, "tpot": 0.05}}},
        "long": {"routingStrategy": "throughput:2,random", "routingConfig": {"maxTokensGte": 1000}},
        "short": {"routingConfig": {"promptTokensLt": 100, "maxTokensLt": 1000}},
    },
}


def pod(name: str, config: object = "", *, created: str = "", namespace: str = "default", **options: Any) -> PodFacts:
    text = config if isinstance(config, str) else json.dumps(config)
    found = make_pod(name, namespace=namespace, annotations={"model.aibrix.ai/config": text}, **options)
    found.metadata.creation_timestamp = created or "2026-01-01T00:00:00Z"
    facts = read_pod(found)
    assert facts is not None
    return facts


def world(config: object, **options: Any) -> World:
    return World(view_of(pod("a", config), pod("b", config, ip="127.64.0.2")), **options)


def asked(question: Question, **more: str) -> Question:
    for name, value in more.items():
        setattr(question, name, value)
    return question


class TestChoice:
    @pytest.mark.parametrize(
        ("name", "prompt", "limit", "want"),
        [
            pytest.param("quick", 1, None, "quick", id="by name"),
            pytest.param("", 1, None, "usual", id="none is asked for"),
            pytest.param("unheard", 1, None, "usual", id="there is none of that name"),
            pytest.param("auto", 5, 1000, "long", id="a lower bound belongs to it"),
            pytest.param("auto", 5, 999, "short", id="two hints"),
            pytest.param("auto", 100, 999, "usual", id="an upper bound does not belong to it"),
            pytest.param("auto", 5, None, "usual", id="no limit fits no hint on limits"),
        ],
    )
    def test_profile(self, name: str, prompt: int, limit: int | None, want: str) -> None:
        found = parse_model_config(json.dumps(CONFIG)).choose(name, prompt, limit)
        assert found is not None
        assert found.name == want

    def test_auto_tries_the_most_specific_first(self) -> None:
        hints = {
            "z": {"promptTokensGte": 10},
            "b": {"promptTokensGte": 100},
            "a": {"promptTokensGte": 10},
            "narrow": {"promptTokensGte": 10, "promptTokensLt": 500},
            "narrower": {"promptTokensGte": 10, "promptTokensLt": 400},
            "none": {},
        }
        config = parse_model_config(json.dumps({"profiles": {n: {"routingConfig": h} for n, h in hints.items()}}))
        assert [p.name for p in config.automatic] == ["narrower", "narrow", "b", "a", "z"]
        assert config.choose("auto", 1, None) is None

    def test_default_is_the_profile_of_that_name_where_no_other_is_named(self) -> None:
        config = parse_model_config('{"profiles": {"default": {"requestsPerSecond": 3}}}')
        assert config.default is not None
        assert config.default.requests_per_second == 3

    def test_targets_are_read(self) -> None:
        assert parse_model_config(json.dumps(CONFIG)).profiles["quick"].targets == Targets(ttft=0.5, tpot=0.05)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("{", "Input data was truncated", id="no JSON"),
        pytest.param("[]", "Expected `object`, got `array`", id="no object"),
        pytest.param('{"profiles": {"a": {"routingStrategy": 1}}}', "$.profiles[...].routingStrategy", id="wrong type"),
        pytest.param('{"profiles": {"a": {"requestsPerSecond": -1}}}', "Expected `int` >= 0", id="negative"),
        pytest.param('{"profiles": {"a": {"routingConfig": {"slos": {"ttft": 0}}}}}', "> 0", id="a target of nothing"),
        pytest.param('{"defaultProfile": "x"}', "defaultProfile: there is no profile 'x'", id="unknown default"),
        pytest.param('{"profiles": {"a\\r\\nb": {}}}', "a name is of printable ASCII", id="no header value"),
        pytest.param(
            json.dumps({"profiles": {str(n): {} for n in range(257)}}), "of length <= 256", id="too many profiles"
        ),
        pytest.param(" " * 65537, "longer than 65536 characters", id="too long"),
    ],
)
def test_a_wrong_configuration_counts_for_nothing_and_says_why(text: str, why: str) -> None:
    got = parse_model_config(text)
    assert why in got.problem
    assert (got.profiles, got.default, got.locked_strategy) == ({}, None, "")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda v: (
            st.lists(v, max_size=3)
            | st.dictionaries(
                st.sampled_from(["profiles", "routingConfig", "slos", "defaultProfile", "a"]), v, max_size=3
            )
        ),
    )
)
def test_any_json_is_read_or_has_a_problem(document: object) -> None:
    got = parse_model_config(json.dumps(document))
    assert got.problem == "" or not got.profiles


def test_other_keys_and_nulls_are_ignored() -> None:
    text = '{"profiles": {"default": {"routingStrategy": null, "routingConfig": {"combined": true}}}, "x": 1}'
    assert parse_model_config(text).problem == ""


def test_no_annotation_is_no_configuration() -> None:
    assert view_of(pod("a")).models[ModelKey("default", "m")].config is UNCONFIGURED


class TestSource:
    def config_of(self, *pods: PodFacts) -> str:
        profile = view_of(*pods).models[ModelKey("default", "m")].config.default
        return profile.strategy if profile is not None else ""

    def named(self, strategy: str) -> object:
        return {"profiles": {"default": {"routingStrategy": strategy}}}

    def test_the_newest_ready_pod_that_says_something_counts(self) -> None:
        old, new = pod("z", self.named("random"), created="2026-01-01T00:00:00Z"), "2026-01-02T00:00:00Z"
        assert self.config_of(old, pod("a", self.named("throughput"), created=new, ip="127.64.0.2")) == "throughput"
        assert self.config_of(old, pod("a", "", created=new, ip="127.64.0.2")) == "random"
        not_ready = pod("a", self.named("throughput"), created=new, ip="127.64.0.2", ready=False)
        assert self.config_of(old, not_ready) == "random"

    def test_an_adapter_has_that_of_its_pods(self) -> None:
        base = pod("a", self.named("random"))
        view = build_view([base], [slice_facts("sql", base.uid)], [adapter_facts("sql")])
        assert view.models[ModelKey("default", "sql")].config.default is not None

    def test_namespaces_have_their_own(self) -> None:
        here = pod("a", self.named("random"), namespace="here")
        there = pod("a", self.named("throughput"), namespace="there", ip="127.64.0.2")
        got = World(view_of(here, there))
        for namespace, want in (("here", "random"), ("there", "throughput")):
            decision = got.director.decide(ask(namespace=namespace))
            assert isinstance(decision, Decision)
            assert decision.request.strategy == want


class TestPrecedence:
    @pytest.mark.parametrize(
        ("config", "header", "profile", "want"),
        [
            pytest.param({}, "", "", "least-latency", id="the default"),
            pytest.param(CONFIG, "", "", "least-request", id="the profile before the default"),
            pytest.param(CONFIG, "", "quick", "random", id="the profile that is asked for"),
            pytest.param(CONFIG, "throughput", "quick", "throughput", id="the header before the profile"),
            pytest.param(CONFIG, "", "long", "throughput:2,random", id="a profile names a combination"),
            pytest.param(CONFIG, "", "short", "least-latency", id="a profile that names none"),
            pytest.param(
                {**CONFIG, "lockedRoutingStrategy": "power-of-two"}, "throughput", "", "power-of-two", id="locked"
            ),
            pytest.param(
                {**CONFIG, "lockedRoutingStrategy": "power-of-two"}, "roulette", "", "power-of-two",
                id="locked: the header is not looked at",
            ),
            pytest.param(
                {"lockedRoutingStrategy": "random", "profiles": {"default": {"lockedRoutingStrategy": "throughput"}}},
                "", "", "throughput", id="locked by the profile",
            ),
            pytest.param({**CONFIG, "lockedRoutingStrategy": "roulette"}, "", "", "least-request", id="locked to none"),
            pytest.param("{", "", "", "least-latency", id="a wrong configuration: the default"),
        ],
    )  # fmt: skip
    def test_strategy(self, config: object, header: str, profile: str, want: str) -> None:
        got = world(config, strategy="least-latency").director.decide(asked(ask(strategy=header), profile=profile))
        assert isinstance(got, Decision)
        assert got.request.strategy == want

    @pytest.mark.parametrize("header", ["roulette", "random,random", "pd", "random:x"])
    def test_what_the_client_names_must_be_one(self, header: str) -> None:
        got = world(CONFIG).director.decide(ask(strategy=header))
        assert isinstance(got, Refusal)
        assert got.status == 400
        assert got.message.startswith(f"incorrect routing strategy {header}; ")

    def test_a_default_that_is_none_is_no_director(self) -> None:
        with pytest.raises(ValueError, match="default strategy 'roulette': valid strategies"):
            world({}, strategy="roulette")

    def test_a_default_may_be_a_combination(self) -> None:
        got = world({}, strategy="least-request:2, random").director.decide(ask())
        assert isinstance(got, Decision)
        assert got.request.strategy == "least-request:2,random"


def test_the_limit_of_requests_goes_with_the_profile() -> None:
    for profile, want in (("", 7), ("quick", 0)):
        got = world(CONFIG).director.decide(asked(ask(), profile=profile))
        assert isinstance(got, Decision)
        assert got.request.requests_per_second == want


def test_the_answer_names_profile_and_session_where_there_are_some() -> None:
    got = world(CONFIG).director.decide(asked(ask(strategy="session-affinity"), profile="quick"))
    assert isinstance(got, Decision)
    text = render_decision(got).decode()
    assert "x-pybrix-profile: quick\r\n" in text
    assert f"x-pybrix-session: {session_id_of(got.endpoints[0])}\r\n" in text
    plain = world({}).director.decide(ask())
    assert isinstance(plain, Decision)
    assert "x-pybrix-profile" not in render_decision(plain).decode()
    assert "x-pybrix-session" not in render_decision(plain).decode()


class TestExternalFilter:
    def world(self) -> World:
        return World(view_of(pod("a", labels={"env": "prod"}), pod("b", labels={"env": "dev"}, ip="127.64.0.2")))

    def test_only_endpoints_that_match_are_ranked(self) -> None:
        got = self.world().director.decide(asked(ask(), external_filter="env in (dev,test)"))
        assert isinstance(got, Decision)
        assert [e.pod_name for e in got.endpoints] == ["b"]

    def test_explain_says_who_was_taken_out_and_why(self) -> None:
        got = self.world().director.explain(asked(ask(), external_filter="env=dev"))
        assert not isinstance(got, Refusal)
        assert [(e.endpoint.pod_name, e.why) for e in got.excluded] == [
            ("a", "external-filter: env is 'prod', asked for is env in (dev)")
        ]

    def test_nothing_that_matches_is_no_ready_pod(self) -> None:
        got = self.world().director.decide(asked(ask(), external_filter="env=gone"))
        assert isinstance(got, Refusal)
        assert (got.reason, got.status) == (Reason.NO_MATCHING_ENDPOINTS, 503)
        assert got.message.startswith("no ready pods for routing: none of model m matches external-filter env=gone")
        assert ("x-error-routing", "true") in got.headers()
        assert "retry-after" in dict(got.headers())

    def test_what_is_no_selector_is_refused(self) -> None:
        got = self.world().director.decide(asked(ask(), external_filter="env=prod,a b"))
        assert isinstance(got, Refusal)
        assert (got.reason, got.status) == (Reason.FILTER_INVALID, 400)
