"""One request's path: parse, admit, one snapshot, schedule, reserve; and what the access log says of it afterwards.

Everything here is synchronous and runs in one event loop, so choosing an endpoint and counting the request on it is one
step that no other request can come between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from pybrix.base.clock import Clock
from pybrix.envoy.wire import EXPLANATION_HEADER, FALLBACK_STRATEGY, NAMESPACE_HEADER, split_cluster, split_namespace
from pybrix.gateway.admission.admintoken import AdminToken
from pybrix.gateway.admission.gate import Gate
from pybrix.gateway.body import Body, parse_body
from pybrix.gateway.explanations import render_header
from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.modelconfig import UNCONFIGURED, ConfigProfile
from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.plugins import Chance, Strategy
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.signals import WARM_UP_S, Signals
from pybrix.gateway.framework.types import Decision, Endpoint, Excluded, Explanation, InferenceRequest, Question
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.history import History, Trace, read_signals
from pybrix.gateway.indexes.learnt import LearntModel
from pybrix.gateway.indexes.load import LoadTable, Outcomes, Weight, sample
from pybrix.gateway.indexes.reservations import Reservation, Reservations
from pybrix.gateway.indexes.traffic import TrafficTable
from pybrix.gateway.scheduling.filters import parse_filter
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView, ModelView

MAX_RANKED = 16
"""Endpoints of a decision; Envoy retries on far fewer, and a header must stay short."""
_UNLEARNT = LearntModel()
_ELSEWHERE = "unknown"
"""What requests are counted as that an earlier brain placed: it knew the strategy."""


@dataclass(slots=True)
class Counters:
    """Totals since the brain started. Plain numbers: they are turned into metrics when someone looks."""

    decisions: dict[str, int] = field(default_factory=dict)
    refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    records: dict[str, int] = field(default_factory=dict)
    models: dict[ModelKey, Outcomes] = field(default_factory=dict)
    expired: int = 0

    def activity(self) -> int:
        """Return a number that changes whenever a request begins, goes on or ends."""
        return sum(self.decisions.values()) + sum(self.records.values()) + self.expired


@dataclass(frozen=True, slots=True)
class RequestTraits:
    """What is known of a streamed chat request without its body."""

    strategy: str
    body_bytes: int
    chain: Sequence[int] = ()
    """See `InferenceRequest.chain`."""
    user: str = ""
    session_id: str = ""
    session_key: str = ""


class Director:
    """Decides and accounts.

    Args:
        view: returns the current snapshot.
        profile: how endpoints are ranked.
        default_strategy: for requests that name none; one that the profile finds.
        gate: says who asks and whether that fits the limits; None for no limits, and users as the header says.
        history: keeps what is decided; None for one with its own bounds.
        admin_token: who has it is told why, in the answer; None for nobody.
    """

    def __init__(
        self,
        *,
        view: Callable[[], ClusterView],
        profile: Profile,
        default_strategy: str,
        loads: LoadTable,
        reservations: Reservations,
        chance: Chance,
        clock: Clock,
        metrics: MetricsTable,
        gate: Gate | None = None,
        history: History | None = None,
        admin_token: AdminToken | None = None,
    ) -> None:
        self._view = view
        self._profile = profile
        default = profile.find(default_strategy)
        if default is None:
            raise ValueError(f"default strategy {default_strategy!r}: {profile.why_invalid(default_strategy)}")
        self._default: Strategy = default
        self._loads = loads
        self._reservations = reservations
        self._chance = chance
        self._clock = clock
        self._metrics = metrics
        self._gate = gate
        self._admin_token = admin_token or AdminToken()
        self.history = History() if history is None else history
        self.traffic = TrafficTable()
        self.sizes: dict[ModelKey, LearntModel] = {}
        """What requests are like, by model."""
        self._unix_offset_s = self._measure_unix_offset_s()
        self.counters = Counters()

    def decide(self, question: Question) -> Decision | Refusal:
        """Rank endpoints and count the request on the first one."""
        started_s = self._clock.monotonic_s()
        trace = Trace(question.request_id, started_s + self._unix_offset_s)
        is_asked = question.explain == "1" and self._admin_token.matches(
            question.admin_token.encode("latin-1", "replace")
        )
        answer = self._decide(question, trace, is_asked)
        if isinstance(answer, Refusal):
            self.counters.refusals[answer.reason] += 1
            trace.refusal = answer
            self.history.keep_refused(trace)
            if is_asked:
                explained = (EXPLANATION_HEADER, render_header(trace))
                answer = msgspec.structs.replace(answer, more=(*answer.more, explained))
            return answer
        self.history.keep(trace)
        if is_asked:
            explained = (EXPLANATION_HEADER, render_header(trace))
            answer = msgspec.structs.replace(answer, headers=(*answer.headers, explained))
        label = self._profile.label(answer.request.strategy)
        self.traffic.add_decision(label, self._clock.monotonic_s() - started_s)
        return answer

    def _decide(self, question: Question, trace: Trace, is_asked: bool) -> Decision | Refusal:
        found = self._admit(question, trace)
        if isinstance(found, Refusal):
            return found
        request, candidates, _, signals = found
        gate = self._gate
        charge = gate.admit(request, signals.now_s) if gate is not None else None
        if isinstance(charge, Refusal):
            return charge
        has_reasons = is_asked or self.history.is_sampled(signals.now_s)
        if gate is None or charge is None:
            return self._place(request, candidates, signals, trace, has_reasons)
        try:
            decision = self._place(request, candidates, signals, trace, has_reasons)
        except BaseException:
            gate.refund(charge, signals.now_s)
            raise
        gate.keep(decision.reservation, charge)
        return msgspec.structs.replace(decision, headers=gate.headers(charge, signals.now_s))

    def route(self, key: ModelKey, traits: RequestTraits) -> Decision | Refusal:
        """Decide for a request that is known by its traits alone; otherwise as `decide`. For replays of traces."""
        model = self._view().models.get(key)
        if model is None:
            return refusal.model_unknown(key.model, key.namespace, self._view().names(key.namespace))
        sizes = self.sizes.get(key, _UNLEARNT)
        prompt_tokens = sizes.prompt_tokens(traits.body_bytes)
        config = model.config
        profile = None if config is UNCONFIGURED else config.choose("", prompt_tokens, None)
        strategy = self._choose_strategy(traits.strategy, config.locked_strategy, profile)
        if isinstance(strategy, Refusal):
            return strategy
        if not model.endpoints:
            return refusal.no_ready_endpoints(key.model, model.condition)
        request = InferenceRequest(
            namespace=key.namespace,
            model=key.model,
            path="/v1/chat/completions",
            strategy=strategy.name,
            body_bytes=traits.body_bytes,
            prompt_tokens=prompt_tokens,
            decode_tokens=sizes.decode_tokens(None),
            is_stream=True,
            user=traits.user,
            session_id=traits.session_id,
            session_key=traits.session_key,
            known_chain=traits.chain,
            profile=profile,
        )
        signals = self._signals(model)
        candidates, excluded = self._profile.admit(request, model.endpoints, signals)
        if not candidates:
            return self._refuse_all(request, excluded, signals)
        return self._place(request, candidates, signals)

    def _place(
        self,
        request: InferenceRequest,
        candidates: Sequence[Endpoint],
        signals: Signals,
        trace: Trace | None = None,
        has_reasons: bool = False,
    ) -> Decision:
        profile = self._profile
        ranked, scores = profile.rank_and_score(request, candidates, signals, self._chance)
        endpoints = ranked[:MAX_RANKED]
        if trace is not None:
            trace.candidates, trace.scores, trace.ranking = candidates, scores, endpoints
            if has_reasons:
                trace.readings = read_signals(candidates, profile.reasons(request, candidates, signals), signals)
        cached = profile.observe_routed(request, endpoints[0], signals)
        prompt = request.prompt_tokens
        # Of a strategy that does not look at prompts, the blocks are never made.
        blocks = sample(request.known_chain) if request.known_chain else ()
        weight = Weight(prompt, prompt - cached if cached < prompt else 0, request.decode_tokens, blocks)
        request.drop_body()
        reservation = self._reservations.reserve(endpoints, weight, signals.now_s, request, trace)
        if trace is not None:
            trace.reservation = reservation
        decisions = self.counters.decisions
        label = profile.label(request.strategy)
        decisions[label] = decisions.get(label, 0) + 1
        return Decision(request, endpoints, reservation, profile.session_id(request, endpoints[0]))

    def explain(self, question: Question) -> Explanation | Refusal:
        """Return what `decide` would, with reasons and all endpoints; nothing is reserved or counted."""
        found = self._admit(question)
        if isinstance(found, Refusal):
            return found
        request, candidates, excluded, signals = found
        return Explanation(request, self._profile.explain(request, candidates, signals, self._chance), excluded)

    def _signals(self, model: ModelView) -> Signals:
        now_s = self._clock.monotonic_s()
        unix_s = now_s + self._unix_offset_s
        return Signals(now_s, unix_s, self._loads.of, self._metrics.of, model.newest_s > unix_s - WARM_UP_S)

    def _admit(
        self, question: Question, trace: Trace | None = None
    ) -> tuple[InferenceRequest, Sequence[Endpoint], Sequence[Excluded], Signals] | Refusal:
        """Return the request, the endpoints it may go to, those it may not, and the numbers to choose by."""
        body = parse_body(question.body)
        if isinstance(body, Refusal):
            return body
        model = self._locate(question, body.model)
        if isinstance(model, Refusal):
            return model
        request = self._request(question, body, model)
        if isinstance(request, Refusal):
            return request
        if trace is not None:
            trace.request = request
        if not model.endpoints:
            return refusal.no_ready_endpoints(model.key.model, model.condition)
        signals = self._signals(model)
        candidates, excluded = self._profile.admit(request, model.endpoints, signals)
        if trace is not None:
            trace.excluded = excluded
        if not candidates:
            return self._refuse_all(request, excluded, signals, question.external_filter)
        return request, candidates, excluded, signals

    def _refuse_all(
        self, request: InferenceRequest, excluded: Sequence[Excluded], signals: Signals, filtered_by: str = ""
    ) -> Refusal:
        full = [each for each in excluded if each.is_full]
        if full:
            retry_after_s = self._profile.retry_after_s(request, [each.endpoint for each in full], signals)
            return refusal.endpoints_full(request.model, request.strategy, full[0].why, retry_after_s)
        if request.selector is not None:
            return refusal.no_matching_endpoints(request.model, filtered_by, excluded[0].why)
        return refusal.no_ready_endpoints(request.model, excluded[0].why)

    def _choose_strategy(self, asked: str, locked: str, profile: ConfigProfile | None) -> Strategy | Refusal:
        """Return the strategy of a request: locked by its profile, by its model, asked for, the profile's, or default.

        What the pods' configuration names and is none is shown where the view is, and passed over here.
        """
        find = self._profile.find
        if profile is not None and profile.locked_strategy and (found := find(profile.locked_strategy)):
            return found
        if locked and (found := find(locked)):
            return found
        if asked:
            return find(asked) or refusal.strategy_invalid(asked, self._profile.why_invalid(asked))
        if profile is not None and profile.strategy and (found := find(profile.strategy)):
            return found
        return self._default

    def _request(self, question: Question, body: Body, model: ModelView) -> InferenceRequest | Refusal:
        """Return what there is to know of the request, what its model's configuration says of it included."""
        key, config = model.key, model.config
        sizes = self.sizes.get(key, _UNLEARNT)
        body_bytes, limit = len(question.body), body.output_limit
        prompt_tokens = sizes.prompt_tokens(body_bytes)
        profile = None if config is UNCONFIGURED else config.choose(question.profile, prompt_tokens, limit)
        strategy = self._choose_strategy(question.strategy, config.locked_strategy, profile)
        if isinstance(strategy, Refusal):
            return strategy
        selector = parse_filter(question.external_filter) if question.external_filter else None
        if isinstance(selector, str):
            return refusal.filter_invalid(question.external_filter, selector)
        # By position: keywords cost as much again.
        return InferenceRequest(
            key.namespace,
            key.model,
            question.path,
            strategy.name,
            body_bytes,
            prompt_tokens,
            sizes.decode_tokens(limit),
            limit,
            body.stream is True,
            model.adapter_name,
            question.user if self._gate is None else self._gate.user_of(question),
            question.session_id,
            question.session_key,
            body.hash_prompt,
            None,
            selector,
            profile,
        )

    def _locate(self, question: Question, name: str) -> ModelView | Refusal:
        """Find the model of that name, in the namespace that the path, the header or nothing names."""
        view = self._view()
        namespace = question.namespace
        if question.path.startswith("/namespaces/"):
            namespace = split_namespace(question.path)[0] or namespace
        if namespace:
            model = view.models.get(ModelKey(namespace, name))
        else:
            model = view.at_home.get(name)
            if model is None and (homes := view.namespaces.get(name)):
                return refusal.model_ambiguous(name, homes, NAMESPACE_HEADER)
        return model or refusal.model_unknown(name, namespace, view.names(namespace))

    def account(self, record: AccessRecord) -> None:
        """Take in one access-log record: renew, or release exactly once and keep the outcome."""
        kind = "renewal" if record.is_renewal else "end"
        now_s = self._clock.monotonic_s()
        if record.is_renewal:
            held = self._reservations.get(record.reservation)
            endpoint = self._resolve(record.upstream, held)
            if held is not None:
                self.history.note(held.trace, record)
            if not self._reservations.renew(record.reservation, endpoint, now_s):
                adopted = endpoint is not None and self._reservations.adopt(record.reservation, endpoint, now_s)
                kind = "renewal_adopted" if adopted else "renewal_unknown"
        else:
            held = self._reservations.release(record.reservation)
            if self._gate is not None:
                self._gate.settle(record, now_s)
            if held is not None or not self._reservations.is_own(record.reservation):
                self._note_outcome(record, held)
                if held is not None:
                    self.history.note(held.trace, record)
                elif not record.reservation:
                    self.history.keep(Trace(record.request_id, now_s + self._unix_offset_s, record=record))
            else:
                # Already released: a duplicate, or the record of a request that was given up. Counted once, then.
                kind = "end_unknown"
        records = self.counters.records
        records[kind] = records.get(kind, 0) + 1

    def _measure_unix_offset_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic_s()

    def expire(self) -> list[Reservation]:
        """Release what stopped being renewed, and forget what is stale; called every second."""
        # The wall clock may be set at any time.
        self._unix_offset_s = self._measure_unix_offset_s()
        self._metrics.expire(self._clock.monotonic_s())
        models = self._view().models
        for gone in [key for key in self.sizes if key not in models]:
            del self.sizes[gone]
        now_s = self._clock.monotonic_s()
        expired = self._reservations.expire(now_s)
        self._note_lost(expired, now_s)
        if self._gate is not None:
            self._gate.keep_house(now_s)
        return expired

    def give_up_all(self) -> int:
        """Release all that is in flight, since the Envoys are gone that had it; return how much that was.

        Nothing ends it any more. Counted on, it would weigh on every choice, most on pods that are warming up.
        """
        lost = self._reservations.release_all()
        self._note_lost(lost, self._clock.monotonic_s())
        return len(lost)

    def _note_lost(self, given_up: Sequence[Reservation], now_s: float) -> None:
        for lost in given_up:
            if self._gate is not None:
                self._gate.release(lost.id, now_s)
            self.history.note_lost(lost.trace)
        self.counters.expired += len(given_up)

    def _resolve(self, host: str, held: Reservation | None) -> Endpoint | None:
        # The reservation's own endpoints first: an address may have gone to another pod since.
        if held is not None:
            for endpoint in held.ranking:
                if endpoint.host == host:
                    return endpoint
        return self._view().by_host.get(host)

    def _note_outcome(self, record: AccessRecord, held: Reservation | None) -> None:
        endpoint = answered = self._resolve(record.upstream, held)
        now_s = self._clock.monotonic_s()
        strategy, is_stream = _ELSEWHERE if record.reservation else FALLBACK_STRATEGY, None
        if endpoint is not None:
            entry = self._loads.entry(endpoint.id)
            entry.outcomes.add(record)
            entry.learnt.add(record, now_s)
        if held is not None:
            if record.attempts > 1:
                # Envoy walked down the ranking: all but the last endpoint it tried failed before they answered.
                for tried in held.ranking[: record.attempts - 1]:
                    entry = self._loads.entry(tried.id)
                    entry.outcomes.failed_attempts += 1
                    entry.learnt.add_failure(now_s)
            if held.request is not None:
                strategy, is_stream = self._profile.label(held.request.strategy), held.request.is_stream
                self._learn(held.request, record, now_s)
                self._profile.observe_outcome(Outcome(held.request, held.ranking[0], endpoint, record, now_s))
            endpoint = held.endpoint
            key = ModelKey(endpoint.namespace, endpoint.model)
        else:
            # An upstream serves a base model and its adapters: what was asked for, only the record says.
            key = ModelKey(*split_cluster(record.cluster))
        if key in self._view().models:
            models = self.counters.models
            totals = models.get(key)
            if totals is None:
                totals = models[key] = Outcomes()
            totals.add(record)
            self.traffic.add(
                (key.namespace, key.model, strategy),
                None if answered is None else answered.id,
                record,
                is_stream,
                now_s,
            )

    def _learn(self, request: InferenceRequest, record: AccessRecord, now_s: float) -> None:
        key = ModelKey(request.namespace, request.model)
        sizes = self.sizes.get(key)
        if sizes is None:
            if key not in self._view().models:
                return
            sizes = self.sizes[key] = LearntModel()
        sizes.add(request.body_bytes, record, now_s)
