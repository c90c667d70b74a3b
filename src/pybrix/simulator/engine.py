"""Let the model run in real time: one task makes its steps and wakes those who wait for tokens."""

from __future__ import annotations

import asyncio

from pybrix.base.clock import Clock
from pybrix.simulator.blocks import root_hash
from pybrix.simulator.lora import AdapterRegistry, LoraError
from pybrix.simulator.model import Model, Sequence
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.protocol import Work
from pybrix.simulator.telemetry import Telemetry

# A loop that falls further behind than this (a stopped process, a busy machine) does not try to catch up.
_MAX_LAG_S = 0.25


class Generation:
    """One request in the engine, as its handler sees it."""

    def __init__(self, sequence: Sequence, is_streamed: bool) -> None:
        self.sequence = sequence
        self._is_streamed = is_streamed
        self._waiter: asyncio.Future[None] | None = None

    async def wait_beyond(self, num_seen: int) -> int:
        """Wait until there are more tokens than were seen, or all of them without streaming; return how many."""
        sequence = self.sequence
        while sequence.num_emitted <= num_seen or not (self._is_streamed or sequence.is_finished):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return sequence.num_emitted

    def wake(self) -> None:
        """Tell the handler that there is something new for it."""
        if self._waiter is not None and (self._is_streamed or self.sequence.is_finished):
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None


class SimulatedEngine:
    """The model, its clock and its metrics."""

    def __init__(self, options: SimulatorOptions, clock: Clock) -> None:
        self.options = options
        self.adapters = AdapterRegistry(options.lora)
        self.model = Model(options.model, self.adapters)
        self.telemetry = Telemetry(options.served_model_names[0], options.max_model_len)
        self._clock = clock
        self._generations: dict[Sequence, Generation] = {}
        self._arrival = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        # As in vLLM, loads and unloads of one name wait for each other.
        self._name_locks: dict[str, asyncio.Lock] = {}

    @property
    def num_requests(self) -> int:
        """Requests that are queued or running."""
        return len(self._generations)

    def submit(self, work: Work) -> Generation:
        """Queue a request; end it with `finish`, however it ends.

        Raises:
            ValueError: it never could run.
        """
        # Every served name is the same model, hence the same cache; an adapter's keys and values are its own.
        name = self.options.served_model_names[0]
        adapter = work.adapter
        root = root_hash(name if adapter is None else f"{name}\0{adapter.number}", work.cache_salt)
        sequence = self.model.submit(work.prompt, work.output, root, self._clock.monotonic_s(), adapter)
        generation = Generation(sequence, work.is_streamed)
        self._generations[sequence] = generation
        self._arrival.set()
        return generation

    def finish(self, generation: Generation, reason: str) -> None:
        """Account for a request's end; one that still runs is aborted and its blocks are free at once."""
        sequence = generation.sequence
        if self.model.abort(sequence):
            reason = "abort"
        del self._generations[sequence]
        self.telemetry.count_end(sequence, reason, self._clock.monotonic_s())

    def note_adapters(self) -> None:
        """Let the metrics tell which adapters run and wait now."""
        if self.adapters.options.is_enabled:
            self.telemetry.note_adapters(self.model, self._clock.now().timestamp())

    async def load_adapter(self, name: str, path: str, *, in_place: bool, has_files: bool) -> None:
        """Load an adapter; like vLLM, the engine goes on with it when the caller has gone.

        Raises:
            LoraError: it is refused, or it fails.
        """
        assert self._tasks is not None, "adapters are loaded while the engine runs"
        load = self._tasks.create_task(self._load(name, path, in_place, has_files), name=f"load {name}")
        err = await asyncio.shield(load)
        if err is not None:
            raise err

    async def unload_adapter(self, name: str) -> None:
        """Unload an adapter; requests that run with it go on.

        Raises:
            LoraError: there is none of that name.
        """
        async with self._lock_of(name):
            self.adapters.unload(name)

    async def _load(self, name: str, path: str, in_place: bool, has_files: bool) -> LoraError | None:
        """Return why it was not loaded: what a task raises would end the engine."""
        async with self._lock_of(name):
            try:
                self.adapters.check_load(name, path, in_place=in_place, has_files=has_files)
                if self.adapters.hangs(path):
                    await asyncio.Event().wait()
                await asyncio.sleep(self.adapters.load_s * self.options.time_scale)
                self.adapters.finish_load(name, path)
            except LoraError as err:
                return err
        return None

    def _lock_of(self, name: str) -> asyncio.Lock:
        return self._name_locks.setdefault(name, asyncio.Lock())

    async def run(self) -> None:
        """Make steps for as long as there is something to do, forever; cancelling it also ends loads under way."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._make_steps()

    async def _make_steps(self) -> None:
        due_s = self._clock.monotonic_s()
        while True:
            step = self.model.begin_step(max(due_s, self._clock.monotonic_s()))
            if step is None:
                self._arrival.clear()
                await self._arrival.wait()
                due_s = self._clock.monotonic_s()
                continue
            # Timers wake up late by up to a millisecond: the next step starts when this one was due to end.
            due_s += step.duration_s * self.options.time_scale
            now_s = self._clock.monotonic_s()
            due_s = max(due_s, now_s - _MAX_LAG_S)
            await asyncio.sleep(max(0.0, due_s - now_s))
            now_s = self._clock.monotonic_s()
            self.telemetry.count_step(sum(share for _, share in step.work))
            self.note_adapters()
            before = {sequence: sequence.last_token_s for sequence, _ in step.work}
            for sequence in self.model.finish_step(step, now_s):
                previous_s = before[sequence]
                if previous_s is None:
                    self.telemetry.count_first_token(sequence, now_s)
                else:
                    self.telemetry.count_token(now_s - previous_s)
                generation = self._generations.get(sequence)
                if generation is not None:
                    generation.wake()
