"""What the simulated engine does and how long it takes: continuous batching over a paged KV cache.

Pure: time is an argument, and the same calls give the same results. It follows vLLM V1's scheduler: one step after the
other; in each, running sequences first (one token each, or the next chunk of a prompt), then waiting ones in order of
arrival while there is room in the batch, in the step's token budget and in the KV cache. When a running sequence
finds no block, the youngest one loses its blocks and starts again later (preemption by recomputation).

A step that computes `p` prompt tokens and decodes `d` sequences takes

    decode_step_s + d * decode_per_sequence_s + p / prefill_tokens_per_s     (seconds)

and the time to read those of its LoRA adapters that are not in memory. A batch has at most `max_loras` of them: a
sequence with one more waits, and others may overtake it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pybrix.simulator import tokens
from pybrix.simulator.blocks import BlockHash, BlockPool, next_hash
from pybrix.simulator.lora import Adapter, AdapterRegistry, LoraOptions


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The simulated hardware and how it is set up."""

    max_num_seqs: int = 256
    """Sequences in one batch; 256."""
    max_num_batched_tokens: int = 8192
    """Tokens that one step computes; 8192."""
    block_size: int = 16
    """Tokens in one KV block; 16."""
    num_blocks: int = 8192
    """KV blocks; 8192."""
    prefill_tokens_per_s: float = 50_000.0
    """Prompt tokens computed per second; 50,000."""
    decode_step_s: float = 0.004
    """Time of a step, whatever is in it; 4 ms."""
    decode_per_sequence_s: float = 0.00002
    """Time that each decoded sequence adds to a step; 20 us."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One request's tokens and how far they are. The answer is known from the start; the model paces it."""

    prompt: bytes
    output: bytes
    root: BlockHash
    arrival_s: float
    adapter: Adapter | None = None
    num_prompt: int = field(init=False)
    num_output: int = field(init=False)
    scheduled_s: float | None = None
    """First time in a batch."""
    first_token_s: float | None = None
    last_token_s: float | None = None
    num_emitted: int = 0
    """Output tokens made so far."""
    num_cached: int | None = None
    """Prompt tokens found in the cache when it was first scheduled; None before that."""
    num_preemptions: int = 0
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list)
    hashes: list[BlockHash] = field(default_factory=list)
    """Hashes of its full blocks, as far as they were needed."""
    num_registered: int = 0
    """Blocks of it that are in the cache's index, or need not be."""

    def __post_init__(self) -> None:
        self.num_prompt = tokens.count(self.prompt)
        self.num_output = tokens.count(self.output)

    @property
    def num_tokens(self) -> int:
        """Tokens whose keys and values the next output token needs."""
        return self.num_prompt + self.num_emitted

    @property
    def is_finished(self) -> bool:
        return self.num_emitted == self.num_output


@dataclass(frozen=True, slots=True)
class Step:
    """One step under way: which sequences compute how many tokens, and how long that takes."""

    work: list[tuple[Sequence, int]]
    duration_s: float
    num_prefill_tokens: int


class Model:
    """The scheduler and its KV cache. Call `begin_step`, let its duration pass, call `finish_step`."""

    def __init__(self, options: ModelOptions, adapters: AdapterRegistry | None = None) -> None:
        self.options = options
        self.adapters = adapters if adapters is not None else AdapterRegistry(LoraOptions())
        self.pool = BlockPool(options.num_blocks)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.num_prefix_queries = 0
        """Prompt tokens looked up in the cache."""
        self.num_prefix_hits = 0
        """Prompt tokens found there."""

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting

    def submit(
        self, prompt: bytes, output: bytes, root: BlockHash, now_s: float, adapter: Adapter | None = None
    ) -> Sequence:
        """Queue a request. It needs at least one token on each side and must fit the KV cache when alone.

        Raises:
            ValueError: it never could run.
        """
        sequence = Sequence(prompt, output, root, now_s, adapter)
        total = sequence.num_prompt + sequence.num_output
        if not sequence.num_prompt or not sequence.num_output:
            raise ValueError("a sequence needs a prompt and an output")
        if self._blocks_for(total) > self.options.num_blocks:
            raise ValueError(f"{total} tokens never fit {self.options.num_blocks} blocks")
        self.waiting.append(sequence)
        return sequence

    def abort(self, sequence: Sequence) -> bool:
        """Drop a request and free its blocks, even in the middle of a step; False when it was no longer there."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        else:
            return False
        self._release(sequence)
        return True

    def begin_step(self, now_s: float) -> Step | None:
        """Choose what the next step computes; None when there is nothing to do."""
        budget = self.options.max_num_batched_tokens
        work: list[tuple[Sequence, int]] = []
        preemptions_before = self.num_preemptions
        # A preemption shortens the list from its end, never before the position.
        position = 0
        while position < len(self.running) and budget:
            sequence = self.running[position]
            needed = sequence.num_tokens - sequence.num_computed
            share = min(needed, budget)
            if not self._grow(sequence, share):
                break
            work.append((sequence, share))
            budget -= share
            position += 1
        if self.num_preemptions == preemptions_before:
            budget = self._admit(work, budget, now_s)
        if not work:
            return None
        num_decodes = num_prefill = 0
        for sequence, share in work:
            if sequence.num_emitted and share == 1:
                num_decodes += 1
            else:
                num_prefill += share
        options = self.options
        duration_s = (
            options.decode_step_s
            + num_decodes * options.decode_per_sequence_s
            + num_prefill / options.prefill_tokens_per_s
            + self.adapters.use(_adapters_of(sequence for sequence, _ in work)) * self.adapters.load_s
        )
        return Step(work, duration_s, num_prefill)

    def finish_step(self, step: Step, now_s: float) -> list[Sequence]:
        """Account for a step and return the sequences that got a token by it; those aborted meanwhile did not."""
        emitted = []
        for sequence, share in step.work:
            if not sequence.blocks:
                continue
            sequence.num_computed += share
            self._register(sequence)
            if sequence.num_computed < sequence.num_tokens:
                continue
            sequence.num_emitted += 1
            if sequence.first_token_s is None:
                sequence.first_token_s = now_s
            sequence.last_token_s = now_s
            emitted.append(sequence)
            if sequence.is_finished:
                self._release(sequence)
        if any(sequence.is_finished for sequence in emitted):
            self.running = [sequence for sequence in self.running if not sequence.is_finished]
        return emitted

    def _admit(self, work: list[tuple[Sequence, int]], budget: int, now_s: float) -> int:
        """Move waiting sequences into the batch, in order of arrival, until one finds no room.

        Those whose adapter finds no place in the batch are passed over and keep their place in the queue.
        """
        in_batch = {adapter.number for adapter in _adapters_of(self.running)}
        passed_over: list[Sequence] = []
        while self.waiting and budget and len(self.running) < self.options.max_num_seqs:
            sequence = self.waiting[0]
            adapter = sequence.adapter
            needs_place = adapter is not None and adapter.number not in in_batch
            if needs_place and len(in_batch) >= self.adapters.options.max_loras:
                passed_over.append(self.waiting.popleft())
                continue
            total = sequence.num_tokens
            # The last token is always computed, even when its block is cached: its logits make the next one.
            self._hash_up_to(sequence, total - 1)
            reused = self.pool.find_prefix(sequence.hashes[: (total - 1) // self.options.block_size])
            num_hit = len(reused) * self.options.block_size
            share = min(total - num_hit, budget)
            blocks = self.pool.allocate(self._blocks_for(num_hit + share) - len(reused), reused=reused)
            if blocks is None:
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if adapter is not None:
                in_batch.add(adapter.number)
            sequence.blocks = blocks
            sequence.num_computed = num_hit
            sequence.num_registered = len(reused)
            if sequence.num_cached is None:
                sequence.num_cached = min(num_hit, sequence.num_prompt)
                sequence.scheduled_s = now_s
                self.num_prefix_queries += sequence.num_prompt
                self.num_prefix_hits += sequence.num_cached
            work.append((sequence, share))
            budget -= share
        self.waiting.extendleft(reversed(passed_over))
        return budget

    def _grow(self, sequence: Sequence, share: int) -> bool:
        """Get the blocks for `share` more tokens, preempting from the young end; False when it lost its own."""
        missing = self._blocks_for(sequence.num_computed + share) - len(sequence.blocks)
        while missing > 0:
            blocks = self.pool.allocate(missing)
            if blocks is not None:
                sequence.blocks += blocks
                break
            victim = self.running.pop()
            self._release(victim)
            victim.num_computed = 0
            victim.num_preemptions += 1
            self.num_preemptions += 1
            self.waiting.appendleft(victim)
            if victim is sequence:
                return False
        return True

    def _register(self, sequence: Sequence) -> None:
        """Make the blocks that are full by now findable."""
        num_full = sequence.num_computed // self.options.block_size
        if num_full > sequence.num_registered:
            self._hash_up_to(sequence, sequence.num_computed)
            for index in range(sequence.num_registered, num_full):
                self.pool.register(sequence.blocks[index], sequence.hashes[index])
            sequence.num_registered = num_full

    def _hash_up_to(self, sequence: Sequence, num_tokens: int) -> None:
        """Extend the hashes to all full blocks of the first `num_tokens` tokens."""
        num_full = num_tokens // self.options.block_size
        if num_full <= len(sequence.hashes):
            return
        block_bytes = self.options.block_size * tokens.TOKEN_BYTES
        text = sequence.prompt + sequence.output
        parent = sequence.hashes[-1] if sequence.hashes else sequence.root
        for index in range(len(sequence.hashes), num_full):
            parent = next_hash(parent, text[index * block_bytes : (index + 1) * block_bytes])
            sequence.hashes.append(parent)

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.options.block_size)


def _adapters_of(sequences: Iterable[Sequence]) -> list[Adapter]:
    """Return each adapter of some sequences once, in their order."""
    return list({seq.adapter.number: seq.adapter for seq in sequences if seq.adapter is not None}.values())
