from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybrix.lab.generator import MIXED, WORKLOADS, generate
from pybrix.lab.trace import NO_REQUEST, Trace

NAMES = [*WORKLOADS, MIXED]


def mean_prompt(trace: Trace) -> float:
    return sum(request.prompt_tokens for request in trace.requests) / len(trace.requests)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 60), st.integers(0, 100))
@example("agents", 59, 87)  # One session's first question is too long for any prompt.
def test_a_workload_is_a_possible_trace(name: str, sessions: int, seed: int) -> None:
    trace = generate(name, sessions=sessions, duration_s=100.0, seed=seed)
    assert sum(request.follows == NO_REQUEST for request in trace.requests) == sessions
    assert 0.0 <= trace.duration_s <= 100.0
    for place, request in enumerate(trace.requests):
        assert len(request.hash_ids) == request.prompt_tokens // trace.block_tokens
        assert request.output_tokens > 0
        if request.follows != NO_REQUEST:
            before = trace.requests[request.follows]
            assert request.follows < place
            assert request.session == before.session
            assert request.prompt_tokens > before.prompt_tokens
            said = (*before.hash_ids, *before.output_ids)
            assert tuple(request.hash_ids[: len(said)]) == said


def test_the_same_seed_gives_the_same_requests() -> None:
    for name in NAMES:
        one, again = (generate(name, sessions=30, duration_s=60.0, seed=4) for _ in range(2))
        assert one == again
        assert one != generate(name, sessions=30, duration_s=60.0, seed=5)


def test_workloads_are_what_they_say() -> None:
    traces = {name: generate(name, sessions=400, duration_s=600.0, seed=1) for name in WORKLOADS}
    means = {name: mean_prompt(trace) for name, trace in traces.items()}
    assert means["chat"] < 5000 < means["shared-prompts"] < 15_000 < means["agents"]
    assert all(trace.reuse_ratio > 0.5 for trace in traces.values())
    turns = {name: len(trace.requests) / 400 for name, trace in traces.items()}
    for name, workload in WORKLOADS.items():
        # Agents stop at the longest prompt there may be.
        assert turns[name] == pytest.approx(workload.turns, rel=0.25), name
