"""Workloads without a file: conversations that grow by turns, system prompts that many share, agents. Seeded.

A session begins at a random moment (Poisson), asks, waits for the answer, thinks, and asks again with everything that
was said so far in front: what an engine can have cached. The blocks of its prompts are its own from where the shared
system prompt ends.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from pybrix.lab.trace import CHAIN_TOKENS, NO_REQUEST, Trace, TraceRequest


@dataclass(frozen=True, slots=True)
class Workload:
    """What sessions are like. Sizes are medians in tokens; `spread` is the standard deviation of their logarithms."""

    system_prompts: int
    """How many different ones there are; the n-th is used in proportion to 1/n."""
    system_tokens: int
    first_tokens: int
    """Of the first question."""
    next_tokens: int
    """Of each question after it, or of what a tool returned."""
    output_tokens: int
    turns: float
    """Mean number of requests of a session (geometric)."""
    think_s: float
    """Median time between an answer and the next question."""
    spread: float = 0.6
    max_prompt_tokens: int = 120_000


WORKLOADS: Mapping[str, Workload] = {
    # People who chat: short questions, some minutes.
    "chat": Workload(20, 800, 250, 120, 300, turns=5.0, think_s=20.0),
    # Companies' assistants, as llm-d's b2b-saas: long system prompts, many customers, one or two questions.
    "shared-prompts": Workload(150, 6000, 1200, 800, 500, turns=1.5, think_s=15.0),
    # Coding agents: long contexts, many turns, tools that answer in a moment.
    "agents": Workload(8, 8000, 12_000, 1200, 250, turns=15.0, think_s=2.0),
}
MIXED = "mixed"
MIX: Mapping[str, float] = {"chat": 0.55, "shared-prompts": 0.35, "agents": 0.10}
"""Shares of sessions."""
DEFAULT_DURATION_S = 1200.0


def generate(name: str, *, sessions: int, duration_s: float, seed: int) -> Trace:
    """Return a trace of so many sessions that begin within the duration.

    Args:
        name: of `WORKLOADS`, or `mixed`.
    """
    chance = random.Random(f"workload-{name}-{seed}")
    starts = sorted(chance.random() * duration_s for _ in range(sessions))
    ids = _Ids()
    requests: list[TraceRequest] = []
    for number, start_s in enumerate(starts):
        kind = name if name != MIXED else chance.choices(list(MIX), list(MIX.values()))[0]
        _add_session(requests, WORKLOADS[kind], kind, f"{kind}-{number}", start_s, chance, ids)
    return Trace(f"{name} (generated)", requests, CHAIN_TOKENS)


class _Ids:
    """Gives blocks their ids."""

    def __init__(self) -> None:
        self._next = 0
        self._shared: dict[tuple[str, int], tuple[int, ...]] = {}

    def fresh(self, count: int) -> tuple[int, ...]:
        first = self._next
        self._next += count
        return tuple(range(first, first + count))

    def shared(self, kind: str, prompt: int, count: int) -> tuple[int, ...]:
        key = (kind, prompt)
        if key not in self._shared:
            self._shared[key] = self.fresh(count)
        return self._shared[key]


def _add_session(
    requests: list[TraceRequest],
    workload: Workload,
    kind: str,
    session: str,
    start_s: float,
    chance: random.Random,
    ids: _Ids,
) -> None:
    weights = [1.0 / (place + 1) for place in range(workload.system_prompts)]
    system = chance.choices(range(workload.system_prompts), weights)[0]
    shared = ids.shared(kind, system, workload.system_tokens // CHAIN_TOKENS)
    own: list[int] = []
    # Every session asks at least once.
    first = workload.system_tokens + _size(workload.first_tokens, workload.spread, chance)
    prompt = min(first, workload.max_prompt_tokens)
    follows, gap_s = NO_REQUEST, 0.0
    for _ in range(_turns(workload.turns, chance)):
        output = _size(workload.output_tokens, workload.spread, chance)
        if prompt > workload.max_prompt_tokens:
            return
        whole, after = prompt // CHAIN_TOKENS, (prompt + output) // CHAIN_TOKENS
        own += ids.fresh(max(0, after - len(shared) - len(own)))
        blocks = (*shared, *own)
        requests.append(
            TraceRequest(
                start_s,
                prompt,
                output,
                blocks[:whole],
                blocks[whole:after],
                session=session,
                user=f"{kind}-user-{system}",
                follows=follows,
                gap_s=gap_s,
            )
        )
        follows = len(requests) - 1
        gap_s = workload.think_s * math.exp(chance.gauss(0.0, workload.spread))
        prompt += output + _size(workload.next_tokens, workload.spread, chance)


def _size(median: int, spread: float, chance: random.Random) -> int:
    return max(1, round(median * math.exp(chance.gauss(0.0, spread))))


def _turns(mean: float, chance: random.Random) -> int:
    if mean <= 1.0:
        return 1
    return 1 + int(math.log(1.0 - chance.random()) / math.log(1.0 - 1.0 / mean))
