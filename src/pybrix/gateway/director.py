"""One request's path: parse, admit, one snapshot, schedule, reserve; and what the access log says of it afterwards.

Everything here is synchronous and runs in one event loop, so choosing an endpoint and counting the request on it is one
step that no other request can come between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pybrix.base.clock import Clock
from pybrix.envoy.wire import NAMESPACE_HEADER, split_namespace
from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.types import (
    Chance,
    Decision,
    Endpoint,
    Excluded,
    Explanation,
    InferenceRequest,
    Question,
)
from pybrix.gateway.indexes.load import LoadTable, Outcomes
from pybrix.gateway.indexes.reservations import Reservation, Reservations
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.view.snapshot import ClusterView, ModelKey, ModelView

BYTES_PER_TOKEN = 4
"""Estimate for prompts that are not tokenised here: four bytes of JSON a token."""
MAX_RANKED = 16
"""Endpoints of a decision; Envoy retries on far fewer, and a header must stay short."""


class _Body(msgspec.Struct):
    # Any: a wrong type gets an answer of its own. What is not named here is skipped without being built.
    model: Any = msgspec.UNSET


_BODY = msgspec.json.Decoder(_Body)


@dataclass(slots=True)
class Counters:
    """Totals since the brain started. Plain numbers: they are turned into metrics when someone looks."""

    decisions: dict[str, int] = field(default_factory=dict)
    refusals: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))
    records: dict[str, int] = field(default_factory=dict)
    models: dict[ModelKey, Outcomes] = field(default_factory=dict)
    expired: int = 0


class Director:
    """Decides and accounts.

    Args:
        view: returns the current snapshot.
        profile: how endpoints are ranked.
        default_strategy: for requests that name none; one of the profile's.
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
    ) -> None:
        self._view = view
        self._profile = profile
        self._default_strategy = default_strategy
        self._loads = loads
        self._reservations = reservations
        self._chance = chance
        self._clock = clock
        self.counters = Counters()

    def decide(self, question: Question) -> Decision | Refusal:
        """Rank endpoints and count the request on the first one."""
        found = self._admit(question)
        if isinstance(found, Refusal):
            self.counters.refusals[found.reason] += 1
            return found
        request, candidates, _ = found
        endpoints = self._profile.rank(request, candidates, self._loads, self._chance)[:MAX_RANKED]
        reservation = self._reservations.reserve(endpoints, request.prompt_tokens, self._clock.monotonic_s())
        decisions = self.counters.decisions
        decisions[request.strategy] = decisions.get(request.strategy, 0) + 1
        return Decision(request, endpoints, reservation)

    def explain(self, question: Question) -> Explanation | Refusal:
        """Return what `decide` would, with reasons and all endpoints; nothing is reserved or counted."""
        found = self._admit(question)
        if isinstance(found, Refusal):
            return found
        request, candidates, excluded = found
        return Explanation(request, self._profile.explain(request, candidates, self._loads, self._chance), excluded)

    def _admit(self, question: Question) -> tuple[InferenceRequest, Sequence[Endpoint], Sequence[Excluded]] | Refusal:
        """Return the request, the endpoints it may go to, and those it may not."""
        model = self._locate(question)
        if isinstance(model, Refusal):
            return model
        strategy = question.strategy or self._default_strategy
        if strategy not in self._profile.strategies:
            return refusal.strategy_unknown(strategy, list(self._profile.strategies))
        size = len(question.body)
        request = InferenceRequest(
            model.key.namespace, model.key.model, question.path, strategy, size, size // BYTES_PER_TOKEN
        )
        if not model.endpoints:
            return refusal.no_ready_endpoints(model.key.model, model.condition)
        candidates, excluded = self._profile.admit(request, model.endpoints, self._loads)
        if not candidates:
            return refusal.no_ready_endpoints(model.key.model, excluded[0].why)
        return request, candidates, excluded

    def _locate(self, question: Question) -> ModelView | Refusal:
        """Find the model that the body names, in the namespace that the path, the header or nothing names."""
        try:
            name = _BODY.decode(question.body).model
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            return refusal.invalid_json(str(err))
        except RecursionError:
            return refusal.invalid_json("it is nested too deeply")
        if name is msgspec.UNSET or name is None:
            return refusal.model_missing()
        if not isinstance(name, str) or not name:
            return refusal.model_invalid()
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
            if not self._reservations.renew(record.reservation, endpoint, now_s):
                adopted = endpoint is not None and self._reservations.adopt(record.reservation, endpoint, now_s)
                kind = "renewal_adopted" if adopted else "renewal_unknown"
        else:
            held = self._reservations.release(record.reservation)
            if held is not None or not self._reservations.is_own(record.reservation):
                self._note_outcome(record, held)
            else:
                # Already released: a duplicate, or the record of a request that expired. Counted once, then.
                kind = "end_unknown"
        records = self.counters.records
        records[kind] = records.get(kind, 0) + 1

    def expire(self) -> list[Reservation]:
        """Release what stopped being renewed; called from time to time."""
        expired = self._reservations.expire(self._clock.monotonic_s())
        self.counters.expired += len(expired)
        return expired

    def _resolve(self, host: str, held: Reservation | None) -> Endpoint | None:
        # The reservation's own endpoints first: an address may have gone to another pod since.
        if held is not None:
            for endpoint in held.ranking:
                if endpoint.host == host:
                    return endpoint
        return self._view().by_host.get(host)

    def _note_outcome(self, record: AccessRecord, held: Reservation | None) -> None:
        endpoint = self._resolve(record.upstream, held)
        if endpoint is not None:
            self._loads.entry(endpoint.id).outcomes.add(record)
        if held is not None:
            if record.attempts > 1:
                # Envoy walked down the ranking: all but the last endpoint it tried failed before they answered.
                for tried in held.ranking[: record.attempts - 1]:
                    self._loads.entry(tried.id).outcomes.failed_attempts += 1
            endpoint = held.endpoint
        if endpoint is not None:
            models, key = self.counters.models, ModelKey(endpoint.namespace, endpoint.model)
            totals = models.get(key)
            if totals is None:
                totals = models[key] = Outcomes()
            totals.add(record)
