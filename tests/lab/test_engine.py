from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.lab.engine import Engine, Job
from pybrix.lab.profiles import PROFILES, EngineProfile
from pybrix.simulator.blocks import root_hash
from pybrix.simulator.model import Model, ModelOptions

PROFILE = EngineProfile(
    prefill_tokens_per_s=10_000.0,
    step_s=0.01,
    per_sequence_s=0.001,
    per_context_token_s=0.0,
    kv_capacity_tokens=100_000,
    max_num_seqs=8,
    max_num_batched_tokens=1000,
)
Arrival = tuple[float, int, int, Sequence[int]]
"""Time, tokens of the prompt, tokens of the answer, blocks of 16 tokens."""


def run(profile: EngineProfile, arrivals: Sequence[Arrival], block: int = 16) -> tuple[Engine, list[Job]]:
    """Let requests come and the engine run until it is idle."""
    engine, jobs = Engine(profile, block), []
    for number, (at_s, prompt, output, blocks) in enumerate(sorted(arrivals, key=lambda arrival: arrival[0])):
        while engine.next_s <= at_s:
            engine.advance(engine.next_s)
        jobs.append(Job(number, prompt, output, blocks, (), at_s))
        engine.submit(jobs[-1], at_s)
    while engine.next_s < math.inf:
        engine.advance(engine.next_s)
    return engine, jobs


def blocks(first: int, tokens: int) -> range:
    return range(first, first + tokens // 16)


def test_a_prompt_takes_its_chunks_and_an_answer_its_steps() -> None:
    engine, ends = Engine(PROFILE, 16), []
    job = Job(0, 2500, 11, blocks(0, 2500), (), 0.0)
    engine.submit(job, 0.0)
    while engine.next_s < math.inf:
        now_s = engine.next_s
        first, finished = engine.advance(now_s)
        ends += [("first", now_s)] * len(first) + [("finished", now_s)] * len(finished)
    first_s = 3 * 0.01 + 0.25
    assert [what for what, _ in ends] == ["first", "finished"]
    assert [at_s for _, at_s in ends] == pytest.approx([first_s, first_s + 10 * 0.011])
    assert engine.cache.used == 0


def test_a_prefix_is_computed_once_but_for_its_last_token() -> None:
    _, (first, again, longer) = run(
        PROFILE, [(0.0, 800, 1, blocks(0, 800)), (1.0, 800, 1, blocks(0, 800)), (2.0, 960, 1, blocks(0, 960))]
    )
    assert (first.cached_tokens, again.cached_tokens, longer.cached_tokens) == (0, 784, 800)
    assert again.first_token_s == pytest.approx(1.0 + 0.01 + 16 / 10_000)


def test_blocks_go_least_recently_used_first_and_tails_before_heads() -> None:
    small = replace(PROFILE, kv_capacity_tokens=1000)
    _, jobs = run(
        small,
        [
            (0.0, 480, 1, blocks(0, 480)),
            (1.0, 480, 1, blocks(100, 480)),
            (2.0, 160, 1, blocks(200, 160)),
            (3.0, 480, 1, blocks(100, 480)),
            (4.0, 480, 1, blocks(0, 480)),
        ],
    )
    # 40 tokens were free; the third took the other 120 from the end of the first prompt, in whole blocks.
    assert [job.cached_tokens for job in jobs] == [0, 0, 0, 464, 352]


def test_an_arrival_is_admitted_at_the_next_step_and_not_at_the_next_end() -> None:
    _, (long, short) = run(PROFILE, [(0.0, 100, 1000, blocks(0, 100)), (1.0, 100, 1, blocks(50, 100))])
    assert short.first_token_s is not None
    assert short.first_token_s < 1.0 + 2 * 0.011 + 100 / 10_000
    assert long.scheduled_s == 0.0


def test_without_room_the_youngest_starts_again_and_all_end() -> None:
    tight = replace(PROFILE, kv_capacity_tokens=1000)
    engine, jobs = run(tight, [(0.0, 320, 400, blocks(0, 320)), (0.0, 320, 400, blocks(100, 320))])
    assert engine.preemptions > 0
    assert engine.cache.used == 0
    assert all(job.first_token_s is not None and job.emitted == 400 for job in jobs)


def test_a_batch_has_its_limits() -> None:
    narrow = replace(PROFILE, max_num_seqs=2)
    engine = Engine(narrow, 16)
    for number in range(5):
        engine.submit(Job(number, 64, 50, blocks(10 * number, 64), (), 0.0), 0.0)
    seen = 0
    while engine.next_s < math.inf:
        engine.advance(engine.next_s)
        page = engine.page(engine.next_s)
        seen = max(seen, int(page.running or 0))
    assert seen == 2


def test_metrics_add_up() -> None:
    engine, _ = run(PROFILE, [(0.0, 320, 10, blocks(0, 320)), (2.0, 320, 10, blocks(0, 320))])
    page = engine.page(10.0)
    assert (page.prompt_tokens, page.prefix_hits, page.generation_tokens) == (640.0, 304.0, 20.0)
    assert page.ttft is not None
    assert page.ttft.count == 2
    assert (page.running, page.waiting, page.kv_cache_ratio) == (0.0, 0.0, 0.0)


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    count = draw(st.integers(1, 25))
    found: list[Arrival] = []
    for number in range(count):
        prompt = draw(st.integers(1, 900))
        shared = draw(st.integers(0, prompt // 16))
        ids = [*range(shared), *range(1000 * (number + 1), 1000 * (number + 1) + -(-prompt // 16) - shared)]
        found.append((draw(st.floats(0.0, 3.0)), prompt, draw(st.integers(1, 300)), ids))
    return found


@given(arrivals(), st.sampled_from([1200, 2000, 5000, 100_000]), st.integers(1, 8))
def test_everything_ends_and_nothing_stays_in_use(found: list[Arrival], capacity: int, width: int) -> None:
    profile = replace(PROFILE, kv_capacity_tokens=capacity, max_num_seqs=width)
    engine, jobs = run(profile, found)
    assert engine.cache.used == 0
    assert engine.cache.cached_tokens <= capacity
    assert not engine.running
    for job in jobs:
        assert job.emitted == job.output_tokens
        assert job.first_token_s is not None
        assert job.scheduled_s is not None
        assert job.arrival_s <= job.scheduled_s < job.first_token_s
        assert 0 <= job.cached_tokens < job.prompt_tokens


def test_it_agrees_with_the_simulators_model() -> None:
    """The same requests in `simulator.model`, which looks at every sequence in every step."""
    chance, block = random.Random(5), 16
    options = ModelOptions(
        max_num_seqs=8,
        max_num_batched_tokens=1000,
        block_size=block,
        num_blocks=PROFILE.kv_capacity_tokens // block,
        prefill_tokens_per_s=PROFILE.prefill_tokens_per_s,
        decode_step_s=PROFILE.step_s,
        decode_per_sequence_s=PROFILE.per_sequence_s,
    )
    found: list[Arrival] = []
    for number in range(200):
        prompt, shared = chance.randrange(40, 2000), chance.randrange(3)
        common = min(prompt // block, 30)
        ids = [shared * 1000 + place for place in range(common)]
        ids += [100_000 + 1000 * number + place for place in range(-(-prompt // block) - common)]
        found.append((number * 0.12 * chance.random() * 2, prompt, chance.randrange(1, 60), ids))
    found.sort(key=lambda arrival: arrival[0])
    texts = [b"".join(each.to_bytes(4, "little") * block for each in held)[: 4 * size] for _, size, _, held in found]

    model, now_s, sequences = Model(options), 0.0, []
    coming = list(zip(found, texts, strict=True))
    while coming or not model.is_idle:
        while coming and coming[0][0][0] <= now_s:
            (at_s, _, output, _), text = coming.pop(0)
            # Answers that no prompt goes on from, so that they are found in no cache.
            sequences.append(model.submit(text, b"\xff" * 4 * output, root_hash("m"), at_s))
        step = model.begin_step(now_s)
        if step is None:
            now_s = coming[0][0][0]
            continue
        now_s += step.duration_s
        model.finish_step(step, now_s)

    _, jobs = run(PROFILE, found)
    want = [(each.first_token_s or 0.0) - each.arrival_s for each in sequences]
    got = [(job.first_token_s or 0.0) - job.arrival_s for job in jobs]
    assert [job.cached_tokens for job in jobs] == [each.num_cached for each in sequences]
    assert got == pytest.approx(want, rel=1e-6)


def test_profiles_are_possible() -> None:
    for name, profile in PROFILES.items():
        assert Engine(profile, 512).fits(100_000, 1000), name
