"""Replay a trace: the brain routes, engines compute, in virtual time. Deterministic by seed; pure but for the seed."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from enum import IntEnum

from pybrix.gateway.director import RequestTraits
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.strategies.session_affinity import session_id_of
from pybrix.lab.brain import MODEL, Brain, VirtualClock
from pybrix.lab.engine import Engine, Job
from pybrix.lab.profiles import EngineProfile
from pybrix.lab.trace import BYTES_PER_TOKEN, NO_REQUEST, Trace, chain_of

LOG_FLUSH_S = 0.05
"""Envoy sends access-log records in batches, so often."""
HOUSEKEEPING_S = 1.0
WINDOW_S = 10.0
"""Over such windows work is added up by pod."""
BYTES_SPREAD = 0.1
"""Standard deviation of the logarithm of bytes per token, by request: a gateway only estimates tokens from bytes."""
MESSAGE_S = (0.002, 0.06)
"""How long a message from one gateway to another takes, at least and at most: Redis, and that it is read in batches."""
PATIENCE_S = 1800.0
"""After the last arrival; what is not answered by then is unfinished."""


class _Kind(IntEnum):
    """What happens; of what happens at the same moment, the lower first."""

    ENGINE = 0
    RECORD = 1
    RENEWAL = 2
    SCRAPE = 3
    HOUSEKEEPING = 4
    MESSAGE = 5
    TELLING = 6
    ARRIVAL = 7


@dataclass(slots=True)
class Result:
    """What happened to each request, in the order of the trace; NaN is never."""

    arrival_s: list[float]
    ttft_s: list[float]
    e2e_s: list[float]
    prompt_tokens: list[int]
    output_tokens: list[int]
    cached_tokens: list[int]
    pod: list[int]
    failed: int = 0
    """Refused by the gateway, or too large for an engine."""
    preemptions: int = 0
    end_s: float = 0.0
    computed: list[list[int]] = field(default_factory=list)
    """Tokens computed by pod, prompts and answers, in windows of `WINDOW_S`."""


class Replay:
    """One run of a trace.

    Args:
        speed: arrivals come so many times faster than in the trace. Time between an answer and the request that
            follows it stays as it is.
        seed: of ties, of strategies that draw, of spread arrivals, of sizes in bytes, of which gateway a request comes
            to.
        gateways: how many there are; a request comes to any of them.
        is_shared: whether gateways tell each other what they know.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        strategy: str,
        pods: int,
        profile: EngineProfile,
        speed: float = 1.0,
        seed: int = 1,
        gateways: int = 1,
        is_shared: bool = True,
    ) -> None:
        # Sources of their own: how often a strategy draws does not change what arrives.
        arrivals = random.Random(f"arrivals-{seed}")
        self._trace = trace
        self._strategy = strategy
        self._clock = VirtualClock()
        self._network = random.Random(f"network-{seed}")
        self._is_shared = is_shared and gateways > 1
        self._brains = []
        for at in range(gateways):
            chance = random.Random(f"brain-{seed}-{at}" if at else f"brain-{seed}")
            self._brains.append(Brain(pods, chance, self._clock, f"lab-{at}", self._is_shared))
        self._engines = [Engine(profile, trace.block_tokens) for _ in range(pods)]
        self._versions = [0] * pods
        self._jobs: dict[int, tuple[Brain, int, str]] = {}
        """By request: who routed it, pod, reservation."""
        self._events: list[tuple[float, int, int, int, object]] = []
        self._counter = 0
        self._open = 0
        self._followers: dict[int, list[int]] = {}
        self._session_ids: dict[str, str] = {}
        count = len(trace.requests)
        self._bytes_per_token = [BYTES_PER_TOKEN * math.exp(arrivals.gauss(0.0, BYTES_SPREAD)) for _ in range(count)]
        nan = [math.nan] * count
        self.result = Result(
            list(nan),
            list(nan),
            list(nan),
            [request.prompt_tokens for request in trace.requests],
            [request.output_tokens for request in trace.requests],
            [0] * count,
            [-1] * count,
        )
        self.last_start_s = 0.0
        """When the last request arrives that follows no other."""
        for place, request in enumerate(trace.requests):
            if request.follows == NO_REQUEST:
                at_s = (request.at_s + trace.spread_s * arrivals.random()) / speed
                self.last_start_s = max(self.last_start_s, at_s)
                self._at(at_s, _Kind.ARRIVAL, place)
            else:
                self._followers.setdefault(request.follows, []).append(place)

    def run(self, until_s: float = math.inf) -> Result:
        """Run to the end, or to a time; then nothing more can be run."""
        if self._trace.requests:
            for brain in self._brains:
                for pod in range(len(self._engines)):
                    self._at(brain.first_scrape_s(), _Kind.SCRAPE, pod, brain)
                if self._is_shared:
                    self._at(brain.interval_s * self._network.random(), _Kind.TELLING, 0, brain)
            self._at(HOUSEKEEPING_S, _Kind.HOUSEKEEPING, 0)
        limit_s = min(until_s, self.last_start_s + PATIENCE_S)
        self._open = len(self._trace.requests)
        while self._open and self._next(limit_s):
            pass
        self.result.end_s = self._clock.now_s
        self.result.preemptions = sum(engine.preemptions for engine in self._engines)
        return self.result

    def settle(self) -> None:
        """After a run: let the brains hear of everything that has ended."""
        self._events = [event for event in self._events if event[1] == _Kind.RECORD]
        heapq.heapify(self._events)
        while self._next(math.inf):
            pass

    @property
    def reserved(self) -> int:
        """Requests that the brains count as in flight."""
        return sum(len(brain.reservations) for brain in self._brains)

    @property
    def expired(self) -> int:
        """Reservations that were given up because nothing was heard of them."""
        return sum(brain.director.counters.expired for brain in self._brains)

    def _next(self, limit_s: float) -> bool:
        """Let the next thing happen; False when there is none until the limit."""
        if not self._events or self._events[0][0] > limit_s:
            return False
        at_s, kind, _, number, what = heapq.heappop(self._events)
        self._clock.now_s = at_s
        if kind == _Kind.ENGINE:
            if what == self._versions[number]:
                self._advance(number, at_s)
        elif kind == _Kind.ARRIVAL:
            self._arrive(number, at_s)
        elif kind == _Kind.RECORD:
            assert isinstance(what, tuple)
            brain, record = what
            brain.director.account(record)
        elif kind == _Kind.RENEWAL:
            self._renew(number, at_s)
        elif kind == _Kind.SCRAPE:
            assert isinstance(what, Brain)
            delay_s = what.scrape(number, self._engines[number].page(at_s))
            self._at(at_s + delay_s, _Kind.SCRAPE, number, what)
        elif kind == _Kind.TELLING:
            assert isinstance(what, Brain)
            self._tell(what, at_s)
        elif kind == _Kind.MESSAGE:
            assert isinstance(what, tuple)
            brain, data, sent_s = what
            brain.replica.take(data, at_s - sent_s, at_s)
        else:
            for brain in self._brains:
                brain.keep_house()
            self._at(at_s + HOUSEKEEPING_S, _Kind.HOUSEKEEPING, 0)
        return True

    def _tell(self, speaker: Brain, now_s: float) -> None:
        for data in speaker.replica.messages(now_s):
            for brain in self._brains:
                if brain is not speaker:
                    at_s = now_s + self._network.uniform(*MESSAGE_S)
                    self._at(at_s, _Kind.MESSAGE, 0, (brain, data, now_s))
        self._at(now_s + speaker.interval_s, _Kind.TELLING, 0, speaker)

    def _at(self, at_s: float, kind: _Kind, number: int, what: object = None) -> None:
        self._counter += 1
        heapq.heappush(self._events, (at_s, kind, self._counter, number, what))

    def _arrive(self, place: int, now_s: float) -> None:
        request, result = self._trace.requests[place], self.result
        result.arrival_s[place] = now_s
        if not self._engines[0].fits(request.prompt_tokens, request.output_tokens):
            self._fail(place, now_s)
            return
        traits = RequestTraits(
            strategy=self._strategy,
            body_bytes=int(request.prompt_tokens * self._bytes_per_token[place]),
            chain=chain_of(request, self._trace.block_tokens),
            user=request.user,
            session_id=self._session_ids.get(request.session, ""),
        )
        brain = self._network.choice(self._brains)
        decision = brain.director.route(MODEL, traits)
        if isinstance(decision, Refusal):
            self._fail(place, now_s)
            return
        chosen = decision.endpoints[0]
        pod = brain.pod_of[chosen.host]
        if request.session:
            self._session_ids[request.session] = session_id_of(chosen)
        self._jobs[place] = (brain, pod, decision.reservation)
        result.pod[place] = pod
        job = Job(place, request.prompt_tokens, request.output_tokens, request.hash_ids, request.output_ids, now_s)
        engine = self._engines[pod]
        before_s = engine.next_s
        engine.submit(job, now_s)
        if engine.next_s != before_s:
            self._schedule(pod)
        self._at(now_s + brain.renewal_s, _Kind.RENEWAL, place)

    def _fail(self, place: int, now_s: float) -> None:
        self.result.failed += 1
        self._end(place, now_s)

    def _end(self, place: int, now_s: float) -> None:
        self._open -= 1
        for follower in self._followers.get(place, ()):
            self._at(now_s + self._trace.requests[follower].gap_s, _Kind.ARRIVAL, follower)

    def _schedule(self, pod: int) -> None:
        self._versions[pod] += 1
        next_s = self._engines[pod].next_s
        if next_s < math.inf:
            self._at(next_s, _Kind.ENGINE, pod, self._versions[pod])

    def _advance(self, pod: int, now_s: float) -> None:
        engine = self._engines[pod]
        before = engine.work_tokens
        first, finished = engine.advance(now_s)
        self._note_work(pod, now_s, engine.work_tokens - before)
        self._schedule(pod)
        for job in first:
            self.result.ttft_s[job.number] = now_s - job.arrival_s
        for job in finished:
            self._finish(pod, job, now_s)

    def _note_work(self, pod: int, now_s: float, tokens: int) -> None:
        windows = self.result.computed
        window = int(now_s / WINDOW_S)
        while len(windows) <= window:
            windows.append([0] * len(self._engines))
        windows[window][pod] += tokens

    def _finish(self, pod: int, job: Job, now_s: float) -> None:
        result, place = self.result, job.number
        result.e2e_s[place] = now_s - job.arrival_s
        result.cached_tokens[place] = job.cached_tokens
        brain, _, reservation = self._jobs.pop(place)
        record = AccessRecord(
            reservation=reservation,
            is_renewal=False,
            upstream=brain.host_of[pod],
            status=200,
            flags="",
            # Envoy tells whole milliseconds.
            ttft_ms=float(int(result.ttft_s[place] * 1000.0)),
            duration_ms=float(int(result.e2e_s[place] * 1000.0)),
            prompt_tokens=job.prompt_tokens,
            completion_tokens=job.output_tokens,
            cached_tokens=job.cached_tokens,
            attempts=1,
            request_id="",
        )
        self._at(math.floor(now_s / LOG_FLUSH_S + 1.0) * LOG_FLUSH_S, _Kind.RECORD, place, (brain, record))
        self._end(place, now_s)

    def _renew(self, place: int, now_s: float) -> None:
        held = self._jobs.get(place)
        if held is None:
            return
        brain, pod, reservation = held
        brain.director.account(
            AccessRecord(
                reservation=reservation,
                is_renewal=True,
                upstream=brain.host_of[pod],
                status=0,
                flags="",
                ttft_ms=None,
                duration_ms=0.0,
                prompt_tokens=0,
                completion_tokens=0,
                cached_tokens=0,
                attempts=1,
                request_id="",
            )
        )
        self._at(now_s + brain.renewal_s, _Kind.RENEWAL, place)
