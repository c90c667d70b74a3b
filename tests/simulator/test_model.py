"""What the simulated engine does, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.simulator.blocks import root_hash
from pybrix.simulator.model import Model, ModelOptions, Sequence
from pybrix.simulator.tokens import encode

ROOT = root_hash("m")
OPTIONS = ModelOptions(
    max_num_seqs=4,
    max_num_batched_tokens=64,
    block_size=4,
    num_blocks=32,
    prefill_tokens_per_s=1000.0,
    decode_step_s=0.01,
    decode_per_sequence_s=0.001,
)


def prompt(name: str, num_tokens: int) -> bytes:
    """Return so many tokens that differ from those of other names from the first one on."""
    return encode(name.ljust(4, "_") * num_tokens)[: 4 * num_tokens]


@dataclass
class World:
    """A model and its virtual clock."""

    model: Model
    now_s: float = 0.0

    def submit(self, name: str, num_prompt: int, num_output: int) -> Sequence:
        return self.model.submit(prompt(name, num_prompt), prompt("out" + name, num_output), ROOT, self.now_s)

    def step(self) -> list[Sequence]:
        """Make one step; return who got a token."""
        step = self.model.begin_step(self.now_s)
        assert step is not None, "there is nothing to do"
        self.now_s += step.duration_s
        return self.model.finish_step(step, self.now_s)

    def settle(self, most_steps: int = 10_000) -> int:
        """Make steps until nothing is left; return how many."""
        for count in range(most_steps):
            if self.model.is_idle:
                return count
            self.step()
        raise AssertionError(f"not idle after {most_steps} steps")


def world(**changes: object) -> World:
    return World(Model(replace(OPTIONS, **changes)))  # type: ignore[arg-type]


def test_one_request_takes_its_prefill_and_a_step_per_token() -> None:
    w = world()
    sequence = w.submit("a", 20, 5)
    assert w.settle() == 5
    assert sequence.first_token_s == pytest.approx(0.01 + 20 / 1000)
    assert sequence.last_token_s == pytest.approx(0.03 + 4 * 0.011)
    assert sequence.num_emitted == 5


def test_a_batch_shares_its_steps() -> None:
    w = world()
    both = [w.submit("a", 4, 10), w.submit("b", 4, 10)]
    assert w.settle() == 10
    assert both[0].last_token_s == both[1].last_token_s


def test_a_long_prompt_is_computed_in_chunks_of_the_token_budget() -> None:
    w = world(max_num_batched_tokens=16)
    sequence = w.submit("a", 40, 1)
    assert w.step() == []
    assert w.step() == []
    assert w.step() == [sequence]
    assert w.now_s == pytest.approx(3 * 0.01 + 40 / 1000)


def test_requests_beyond_the_batch_wait_in_order_of_arrival() -> None:
    w = world(max_num_seqs=1)
    first, second, third = (w.submit(name, 4, 3) for name in "abc")
    w.step()
    assert w.model.running == [first]
    assert list(w.model.waiting) == [second, third]
    w.settle()
    ends = [s.last_token_s for s in (first, second, third)]
    assert ends == sorted(ends, key=lambda end_s: end_s or 0)
    assert second.scheduled_s == first.last_token_s


@pytest.mark.parametrize(
    ("num_prompt", "want"),
    [
        pytest.param(3, 0, id="less than a block is never found"),
        pytest.param(4, 0, id="the last token is always computed, so one full block is not enough"),
        pytest.param(5, 4, id="one block and a token"),
        pytest.param(17, 16, id="four blocks and a token"),
    ],
)
def test_an_equal_prompt_finds_its_full_blocks(num_prompt: int, want: int) -> None:
    w = world()
    w.submit("a", num_prompt, 2)
    w.settle()
    again = w.submit("a", num_prompt, 2)
    w.settle()
    assert again.num_cached == want
    assert (w.model.num_prefix_queries, w.model.num_prefix_hits) == (2 * num_prompt, want)


def test_cached_tokens_cost_no_prefill_time() -> None:
    w = world()
    w.submit("a", 41, 1)
    w.settle()
    started_s = w.now_s
    again = w.submit("a", 41, 1)
    w.settle()
    assert again.first_token_s == pytest.approx(started_s + 0.01 + 1 / 1000)


def test_an_answer_is_found_as_part_of_the_next_prompt() -> None:
    w = world()
    first = w.submit("a", 8, 8)
    w.settle()
    follow_up = w.model.submit(first.prompt + first.output + prompt("more", 3), prompt("x", 1), ROOT, w.now_s)
    w.settle()
    # The answer's last token was never fed back, so its block is not full.
    assert follow_up.num_cached == 12


def test_another_cache_salt_shares_nothing() -> None:
    w = world()
    w.submit("a", 20, 1)
    w.settle()
    other = w.model.submit(prompt("a", 20), prompt("x", 1), root_hash("m", "salt"), w.now_s)
    w.settle()
    assert other.num_cached == 0


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    w = world(num_blocks=8)
    for name in ("old", "new", "old"):
        w.submit(name, 9, 1)
        w.settle()
    # 3 blocks each; two of this one's five are taken from `new`, which nobody used last.
    w.submit("next", 17, 1)
    w.settle()
    old, new = w.submit("old", 9, 1), w.submit("new", 9, 1)
    w.settle()
    assert old.num_cached == 8
    assert (new.num_cached or 0) < 8


def test_a_full_cache_lets_the_next_request_wait() -> None:
    w = world(num_blocks=6)
    first, second = w.submit("a", 16, 4), w.submit("b", 16, 4)
    w.step()
    assert (w.model.running, list(w.model.waiting)) == ([first], [second])
    w.settle()
    assert second.is_finished
    assert w.model.num_preemptions == 0


def test_the_youngest_is_preempted_when_the_cache_runs_full_and_still_ends_whole() -> None:
    w = world(num_blocks=6)
    first, second = w.submit("a", 8, 12), w.submit("b", 8, 12)
    w.settle()
    assert (first.num_preemptions, second.num_preemptions >= 1) == (0, True)
    assert (first.num_emitted, second.num_emitted) == (12, 12)
    assert w.model.num_preemptions == second.num_preemptions
    assert w.model.pool.usage_ratio == 0.0


def test_an_aborted_request_frees_its_blocks_even_in_the_middle_of_a_step() -> None:
    w = world()
    running, other = w.submit("a", 20, 5), w.submit("b", 4, 2)
    step = w.model.begin_step(0.0)
    assert step is not None
    assert w.model.abort(running)
    assert w.model.finish_step(step, 1.0) == [other]
    assert running.num_emitted == 0
    assert not w.model.abort(running)
    w.settle()
    assert w.model.pool.num_free == OPTIONS.num_blocks


def test_a_waiting_request_can_be_aborted() -> None:
    w = world(max_num_seqs=1)
    w.submit("a", 4, 2)
    waiting = w.submit("b", 4, 2)
    w.step()
    assert w.model.abort(waiting)
    w.settle()
    assert waiting.num_emitted == 0


def test_what_can_never_run_is_refused_at_once() -> None:
    w = world(num_blocks=2)
    with pytest.raises(ValueError, match="never fit"):
        w.submit("a", 8, 1)
    with pytest.raises(ValueError, match="needs a prompt"):
        w.submit("a", 0, 1)


requests = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 40), st.integers(1, 12), st.integers(0, 4), st.booleans()),
    max_size=12,
)


@given(requests, st.integers(13, 40), st.integers(1, 5), st.integers(1, 64))
def test_every_request_ends_whole_or_aborted_and_leaves_nothing_behind(
    script: list[tuple[str, int, int, int, bool]], num_blocks: int, max_num_seqs: int, budget: int
) -> None:
    w = world(num_blocks=num_blocks, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget)
    sequences: list[Sequence] = []
    aborted: list[Sequence] = []
    for name, num_prompt, num_output, steps_before, is_aborted in script:
        for _ in range(steps_before):
            if not w.model.is_idle:
                w.step()
        sequence = w.submit(name, num_prompt, num_output)
        sequences.append(sequence)
        if is_aborted and len(sequences) > 1:
            victim = sequences[-2]
            if w.model.abort(victim):
                aborted.append(victim)
        assert 0.0 <= w.model.pool.usage_ratio <= 1.0
        assert len(w.model.running) <= max_num_seqs
    w.settle()
    assert w.model.pool.num_free == num_blocks
    for sequence in sequences:
        assert sequence.is_finished != (sequence in aborted)
        assert (sequence.num_cached or 0) < sequence.num_prompt
    served = [s for s in sequences if s.scheduled_s is not None]
    assert w.model.num_prefix_queries == sum(s.num_prompt for s in served)
    assert w.model.num_prefix_hits == sum(s.num_cached or 0 for s in served)


@given(requests)
def test_the_same_requests_take_the_same_time(script: list[tuple[str, int, int, int, bool]]) -> None:
    def run() -> list[tuple[float | None, float | None, int | None]]:
        w = world(num_blocks=20)
        sequences = [w.submit(name, num_prompt, num_output) for name, num_prompt, num_output, _, _ in script]
        w.settle()
        return [(s.first_token_s, s.last_token_s, s.num_cached) for s in sequences]

    assert run() == run()
