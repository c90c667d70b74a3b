"""A simulated engine in virtual time: continuous batching with chunked prefill, as `pybrix.simulator.model` has it.

That model looks at every sequence in every step, which is right for an engine that answers in real time. Here, steps
that only decode are one event, up to the next sequence that ends or the next arrival, since their durations add up in
closed form:

    k steps of n sequences with c tokens of context
        = k * (step_s + n * per_sequence_s + c * per_context_token_s) + per_context_token_s * n * k * (k - 1) / 2

The rules are the same: running sequences first, then waiting ones in order of arrival while there is room in the batch,
in the step's tokens and for the whole prompt in the KV cache; without room for the next decoded token, the youngest
sequence loses what it holds and is computed again later.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence

from pybrix.engine.page import Average, EnginePage
from pybrix.lab.kvcache import KvCache
from pybrix.lab.profiles import EngineProfile


class Job:
    """A request in an engine. Times are of the virtual clock."""

    __slots__ = (
        "arrival_s",
        "blocks",
        "cached_tokens",
        "computed",
        "decodes_from",
        "emitted",
        "first_token_s",
        "hash_ids",
        "held",
        "number",
        "output_ids",
        "output_tokens",
        "prompt_tokens",
        "scheduled_s",
        "total",
        "turn",
    )

    def __init__(
        self,
        number: int,
        prompt_tokens: int,
        output_tokens: int,
        hash_ids: Sequence[int],
        output_ids: Sequence[int],
        arrival_s: float,
    ) -> None:
        self.number = number
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.hash_ids = hash_ids
        self.output_ids = output_ids
        self.arrival_s = arrival_s
        self.scheduled_s: float | None = None
        self.first_token_s: float | None = None
        self.cached_tokens = 0
        """Prompt tokens found in the cache when it was first scheduled."""
        self.emitted = 0
        """Output tokens made, as of when it last began to decode or lost its place."""
        self.decodes_from = -1
        """The engine's step from which it decodes; -1 while it does not."""
        self.total = prompt_tokens
        """Tokens that are to be computed before the next output token."""
        self.computed = 0
        self.held = 0
        """Tokens in the KV cache without identity, but for those decoded since `decodes_from`."""
        self.blocks: list[int] = []
        self.turn = 0
        """Grows when it loses its place: entries of the past are recognised by it."""


class Engine:
    """One engine. The owner calls `advance` at `next_s`, and at no later time anything else.

    Attributes:
        next_s: when something happens; infinity while the engine is idle.
    """

    def __init__(self, profile: EngineProfile, trace_block_tokens: int) -> None:
        self.profile = profile
        self.cache = KvCache(profile.kv_capacity_tokens)
        self._trace_block = trace_block_tokens
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        """In order of admission."""
        self._prefilling: list[Job] = []
        self._ends: list[tuple[int, int, int, Job]] = []
        """Of those that decode: the step at which they end, number, turn."""
        self._steps = 0
        self._decoding = 0
        self._context = 0
        self._run_began_s = 0.0
        self._run_steps = 0
        self._chunks: list[tuple[Job, int]] = []
        self.next_s = math.inf
        self.computed_tokens = 0
        """Prompt tokens computed, again after preemptions too."""
        self.preemptions = 0
        self._prompt_tokens = 0
        self._hit_tokens = 0
        self._generated = 0
        self._sums = {name: [0.0, 0] for name in ("queue", "prefill", "decode", "ttft", "tpot", "e2e")}

    @property
    def work_tokens(self) -> int:
        """Tokens computed so far, of prompts and answers."""
        return self.computed_tokens + self._generated

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Say whether a request could run when it is alone."""
        return prompt_tokens + output_tokens <= self.profile.kv_capacity_tokens

    def submit(self, job: Job, now_s: float) -> None:
        """Queue a request that fits. It may move `next_s` to an earlier time."""
        self.waiting.append(job)
        if self.next_s == math.inf:
            self._begin(now_s)
        elif len(self.waiting) == 1 and self._run_steps > 1:
            self._cut(now_s)

    def advance(self, now_s: float) -> tuple[list[Job], list[Job]]:
        """End the steps that end now and begin the next ones; return who got a first token, and who is finished."""
        first, finished = self._complete(now_s)
        self._begin(now_s)
        return first, finished

    def _cut(self, now_s: float) -> None:
        """Let the run of steps end with the step under way."""
        low, high = 1, self._run_steps
        while low < high:
            middle = (low + high) // 2
            if self._run_began_s + self._decode_s(middle) < now_s:
                low = middle + 1
            else:
                high = middle
        self._run_steps = low
        self.next_s = self._run_began_s + self._decode_s(low)

    def _decode_s(self, steps: int) -> float:
        profile, count = self.profile, self._decoding
        each = profile.step_s + count * profile.per_sequence_s + self._context * profile.per_context_token_s
        return steps * each + profile.per_context_token_s * count * steps * (steps - 1) / 2

    def _begin(self, now_s: float) -> None:
        is_short = self._make_room()
        # The first step's tokens are taken before anyone is admitted; those of further steps when they are made.
        self.cache.grow(self._decoding)
        budget = self.profile.max_num_batched_tokens - self._decoding
        chunks = self._chunks = []
        for job in self._prefilling:
            share = min(job.total - job.computed, budget)
            if share > 0:
                chunks.append((job, share))
                budget -= share
        if not is_short:
            self._admit(budget, now_s)
        self._run_began_s = now_s
        if chunks:
            self._run_steps = 1
            prefill_s = sum(share for _, share in chunks) / self.profile.prefill_tokens_per_s
            self.next_s = now_s + self._decode_s(1) + prefill_s
        elif self._decoding:
            room = 1 + (self.cache.capacity - self.cache.used) // self._decoding
            self._run_steps = min(self._next_end() - self._steps, room)
            self.next_s = now_s + self._decode_s(self._run_steps)
        else:
            self._run_steps = 0
            self.next_s = math.inf

    def _next_end(self) -> int:
        ends = self._ends
        while ends[0][2] != ends[0][3].turn:
            heapq.heappop(ends)
        return ends[0][0]

    def _make_room(self) -> bool:
        """Preempt until every decoding sequence has room for one token; say whether it was needed."""
        cache, is_short = self.cache, False
        while self._decoding and cache.used + self._decoding > cache.capacity:
            is_short = True
            self._preempt(self.running[-1])
        return is_short

    def _preempt(self, job: Job) -> None:
        self.preemptions += 1
        self.running.remove(job)
        if job.decodes_from >= 0:
            self._leave_batch(job)
        else:
            self._prefilling.remove(job)
        self.cache.shrink(job.held)
        self.cache.release(job.blocks)
        job.held, job.computed, job.blocks = 0, 0, []
        job.total = job.prompt_tokens + job.emitted
        job.turn += 1
        self.waiting.appendleft(job)

    def _leave_batch(self, job: Job) -> None:
        """Stop decoding a sequence."""
        decoded = self._steps - job.decodes_from
        job.emitted += decoded
        job.held += decoded
        job.decodes_from = -1
        self._decoding -= 1
        self._context -= job.prompt_tokens + job.emitted

    def _admit(self, budget: int, now_s: float) -> None:
        waiting, block = self.waiting, self._trace_block
        while waiting and budget > 0 and len(self.running) < self.profile.max_num_seqs:
            job = waiting[0]
            found = self.cache.find(job.hash_ids)
            reused = job.hash_ids[:found]
            # The last token is always computed: its logits make the next one.
            whole = self.profile.block_tokens
            hit = min(min(found * block, job.prompt_tokens) // whole, (job.total - 1) // whole) * whole
            if not self.cache.admit(reused, job.total - min(found * block, job.prompt_tokens)):
                return
            waiting.popleft()
            self.running.append(job)
            job.blocks = list(reused)
            job.held = job.total - min(found * block, job.prompt_tokens)
            job.computed = hit
            if job.scheduled_s is None:
                job.scheduled_s = now_s
                job.cached_tokens = hit
                self._prompt_tokens += job.prompt_tokens
                self._hit_tokens += hit
            share = min(job.total - hit, budget)
            self._prefilling.append(job)
            self._chunks.append((job, share))
            budget -= share

    def _complete(self, now_s: float) -> tuple[list[Job], list[Job]]:
        steps, count = self._run_steps, self._decoding
        self._steps += steps
        self._context += steps * count
        self._generated += steps * count
        self.cache.grow(max(0, steps - 1) * count)
        finished: list[Job] = []
        ends = self._ends
        while ends and ends[0][0] <= self._steps:
            _, _, turn, job = heapq.heappop(ends)
            if turn == job.turn:
                self._leave_batch(job)
                finished.append(job)
        first: list[Job] = []
        for job, share in self._chunks:
            self.computed_tokens += share
            job.computed += share
            self._name_blocks(job)
            if job.computed < job.total:
                continue
            self._prefilling.remove(job)
            job.emitted += 1
            self._generated += 1
            if job.first_token_s is None:
                job.first_token_s = now_s
                first.append(job)
            if job.emitted >= job.output_tokens:
                finished.append(job)
                continue
            job.decodes_from = self._steps
            self._decoding += 1
            self._context += job.prompt_tokens + job.emitted
            end = self._steps + job.output_tokens - job.emitted
            heapq.heappush(ends, (end, job.number, job.turn, job))
        self._chunks = []
        for job in finished:
            self._finish(job, now_s)
        return first, finished

    def _name_blocks(self, job: Job) -> None:
        """Make the prompt's blocks findable that are complete by now."""
        size, prompt = self._trace_block, job.prompt_tokens
        done = min(job.computed, prompt)
        while (place := len(job.blocks)) < len(job.hash_ids):
            end = min((place + 1) * size, prompt)
            if end > done or not self.cache.name(job.hash_ids[place], end - place * size):
                # Another sequence has named this block meanwhile: here it stays a copy, as does what comes after.
                break
            job.blocks.append(job.hash_ids[place])
            job.held -= end - place * size

    def _finish(self, job: Job, now_s: float) -> None:
        self.running.remove(job)
        if job.output_ids:
            size = self._trace_block
            whole = job.prompt_tokens // size
            if len(job.blocks) >= whole:
                for block in job.output_ids:
                    if job.held < size or not self.cache.name(block, size):
                        break
                    job.blocks.append(block)
                    job.held -= size
        self.cache.shrink(job.held)
        self.cache.release(job.blocks)
        assert job.scheduled_s is not None
        assert job.first_token_s is not None
        self._note("queue", job.scheduled_s - job.arrival_s)
        self._note("prefill", job.first_token_s - job.scheduled_s)
        self._note("decode", now_s - job.first_token_s)
        self._note("ttft", job.first_token_s - job.arrival_s)
        self._note("e2e", now_s - job.arrival_s)
        if job.output_tokens > 1:
            self._note("tpot", (now_s - job.first_token_s) / (job.output_tokens - 1))

    def _note(self, name: str, value: float) -> None:
        entry = self._sums[name]
        entry[0] += value
        entry[1] += 1

    def _average(self, name: str) -> Average:
        total, count = self._sums[name]
        return Average(total, count)

    def page(self, now_s: float) -> EnginePage:
        """Return what `/metrics` would say."""
        steps = 0
        if self._run_steps and self._decoding and now_s > self._run_began_s:
            share = (now_s - self._run_began_s) / (self.next_s - self._run_began_s)
            steps = int(self._run_steps * min(1.0, share))
        decoded = steps * self._decoding
        return EnginePage(
            running=float(len(self.running)),
            waiting=float(len(self.waiting)),
            kv_cache_ratio=min(1.0, (self.cache.used + max(0, decoded - self._decoding)) / self.cache.capacity),
            kv_capacity_tokens=self.cache.capacity,
            prompt_tokens=float(self._prompt_tokens),
            generation_tokens=float(self._generated + decoded),
            prefix_queries=float(self._prompt_tokens),
            prefix_hits=float(self._hit_tokens),
            started_s=0.0,
            queue=self._average("queue"),
            prefill=self._average("prefill"),
            decode=self._average("decode"),
            ttft=self._average("ttft"),
            tpot=self._average("tpot"),
            e2e=self._average("e2e"),
        )
