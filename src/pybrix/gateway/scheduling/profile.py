"""A scheduling profile: filter, score, pick. Pure; live numbers and chance are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pybrix.gateway.framework.outcome import Outcome
from pybrix.gateway.framework.plugins import Binding, Chance, Filter, Learner, Limiting, Picker, Strategy
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, Excluded, InferenceRequest, Ranked
from pybrix.gateway.scheduling.combination import Combination, canonical_name, parse_members
from pybrix.gateway.scheduling.filters import LabelFilter
from pybrix.gateway.scheduling.picker import BestFirst

MAX_COMBINATIONS = 256
"""Combinations that are kept as they were parsed; clients may send any number of others."""
COMBINED = "combination"
"""What combinations are counted as: their texts are the clients' own."""


class Profile:
    """Filters in their order, the strategy that a request names, and a picker.

    Args:
        strategies: by name.
        filters: an endpoint stays in when every filter lets it.
        picker: turns scores into an order; best first.
    """

    def __init__(
        self, strategies: Mapping[str, Strategy], filters: Sequence[Filter] = (), picker: Picker | None = None
    ) -> None:
        self.strategies = strategies
        self._filters = tuple(filters)
        self._label_filters = (*self._filters, LabelFilter())
        self._picker: Picker = picker or BestFirst()
        self._learners = {name: each for name, each in strategies.items() if isinstance(each, Learner)}
        self._limiting = {name: each for name, each in strategies.items() if isinstance(each, Limiting)}
        self._binding = {name: each for name, each in strategies.items() if isinstance(each, Binding)}
        self._combinations: dict[str, Strategy] = {}

    @property
    def names(self) -> list[str]:
        """Names that a request may choose by, sorted."""
        return sorted(self.strategies)

    def find(self, text: str) -> Strategy | None:
        """Return the strategy that a request names, or a combination of several; None for a text that is neither."""
        return self.strategies.get(text) or self._combinations.get(text) or self._combine(text)

    def why_invalid(self, text: str) -> str:
        """Return what is wrong with a text that `find` finds nothing for; "" when it would find something."""
        try:
            parse_members(text, self.strategies)
        except ValueError as err:
            return str(err)
        return ""

    def label(self, strategy: str) -> str:
        """Return what a strategy is counted as: one of a bounded number of names."""
        return strategy if strategy in self.strategies else COMBINED

    def _combine(self, text: str) -> Strategy | None:
        try:
            members = parse_members(text, self.strategies)
        except ValueError:
            return None
        found: Strategy
        if len(members) == 1:
            found = self.strategies[members[0][0]]
        else:
            name = canonical_name(members)
            found = self._combinations.get(name) or Combination([(self.strategies[n], w) for n, w in members])
        combinations = self._combinations
        if len(combinations) >= MAX_COMBINATIONS:
            del combinations[next(iter(combinations))]
        combinations[text] = found
        return found

    def _strategy_of(self, request: InferenceRequest) -> Strategy:
        strategy = self.strategies.get(request.strategy) or self.find(request.strategy)
        if strategy is None:
            raise KeyError(request.strategy)
        return strategy

    def admit(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals
    ) -> tuple[Sequence[Endpoint], Sequence[Excluded]]:
        """Return the endpoints that every filter lets through and that are not full, and the others with the reason.

        Only a strategy that limits says that an endpoint is full.
        """
        limiting = self._limiting.get(request.strategy)
        filters = self._filters if request.selector is None else self._label_filters
        if not filters and limiting is None:
            return endpoints, ()
        kept: list[Endpoint] = []
        excluded: list[Excluded] = []
        for endpoint in endpoints:
            whys = (f"{f.name}: {why}" for f in filters if (why := f.why_excluded(request, endpoint, signals)))
            why = next(whys, "")
            if why:
                excluded.append(Excluded(endpoint, why))
            else:
                kept.append(endpoint)
        if limiting is None or not kept:
            return kept, excluded
        fullness = limiting.why_full(request, kept, signals)
        excluded += [Excluded(e, f"full: {why}", True) for e, why in zip(kept, fullness, strict=True) if why]
        return [endpoint for endpoint, why in zip(kept, fullness, strict=True) if not why], excluded

    def retry_after_s(self, request: InferenceRequest, full: Sequence[Endpoint], signals: Signals) -> float:
        """Return when the first of endpoints that `admit` called full may have room, by the strategy that said so."""
        return self._limiting[request.strategy].retry_after_s(request, full, signals)

    def rank(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals, chance: Chance
    ) -> list[Endpoint]:
        """Return all the endpoints, best first, by the request's strategy (for which `find` finds something)."""
        return self.rank_and_score(request, endpoints, signals, chance)[0]

    def rank_and_score(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals, chance: Chance
    ) -> tuple[list[Endpoint], Sequence[float]]:
        """Return what `rank` does, and the scores in the order of `endpoints`."""
        strategy = self._strategy_of(request)
        scores = strategy.score(request, endpoints, signals)
        favoured = _new_ones(endpoints, signals) if strategy.prefers_new else None
        return list(map(endpoints.__getitem__, self._picker.order(scores, chance, favoured))), scores

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        """Return what the scores were made of, in the order of `endpoints`."""
        return self._strategy_of(request).reasons(request, endpoints, signals)

    def explain(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals, chance: Chance
    ) -> list[Ranked]:
        """Return what `rank` would, with scores and reasons."""
        strategy = self._strategy_of(request)
        scores = strategy.score(request, endpoints, signals)
        reasons = strategy.reasons(request, endpoints, signals)
        favoured = _new_ones(endpoints, signals) if strategy.prefers_new else None
        return [Ranked(endpoints[i], scores[i], reasons[i]) for i in self._picker.order(scores, chance, favoured)]

    def session_id(self, request: InferenceRequest, endpoint: Endpoint) -> str:
        """Return what the answer's `x-session-id` is to say when the endpoint answers; "" for no such header."""
        name = request.strategy
        if name in self.strategies:
            binding = self._binding.get(name)
            return binding.session_id(request, endpoint) if binding is not None else ""
        found = self.find(name)
        return found.session_id(request, endpoint) if isinstance(found, Binding) else ""

    def observe_routed(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> int:
        """Tell the request's strategy where it goes; return the prompt tokens that are expected to be cached there."""
        learner = self._learner_of(request)
        return learner.observe_routed(request, endpoint, signals) if learner is not None else 0

    def observe_outcome(self, outcome: Outcome) -> None:
        """Tell the strategy that ranked a request how it ended."""
        learner = self._learner_of(outcome.request)
        if learner is not None:
            learner.observe_outcome(outcome)

    def _learner_of(self, request: InferenceRequest) -> Learner | None:
        name = request.strategy
        if name in self.strategies:
            return self._learners.get(name)
        found = self.find(name)
        return found if isinstance(found, Learner) else None


def _new_ones(endpoints: Sequence[Endpoint], signals: Signals) -> list[bool] | None:
    """Return which endpoints became ready a short while ago; None where none did."""
    if not signals.has_new:
        return None
    return [signals.is_new(endpoint) for endpoint in endpoints]
