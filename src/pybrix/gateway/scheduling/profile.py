"""A scheduling profile: filter, score, pick. Pure; live loads and chance are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pybrix.gateway.framework.types import (
    Chance,
    Endpoint,
    Excluded,
    Filter,
    InferenceRequest,
    Loads,
    Picker,
    Ranked,
    Strategy,
)
from pybrix.gateway.scheduling.picker import BestFirst


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
        self._picker: Picker = picker or BestFirst()

    def admit(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads
    ) -> tuple[Sequence[Endpoint], Sequence[Excluded]]:
        """Return the endpoints that every filter lets through, and the others with the reason."""
        if not self._filters:
            return endpoints, ()
        kept: list[Endpoint] = []
        excluded: list[Excluded] = []
        for endpoint in endpoints:
            whys = (f"{f.name}: {why}" for f in self._filters if (why := f.why_excluded(request, endpoint, loads)))
            why = next(whys, "")
            if why:
                excluded.append(Excluded(endpoint, why))
            else:
                kept.append(endpoint)
        return kept, excluded

    def rank(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads, chance: Chance
    ) -> list[Endpoint]:
        """Return all the endpoints, best first, by the request's strategy (which must be one of `strategies`)."""
        scores = self.strategies[request.strategy].score(request, endpoints, loads)
        return list(map(endpoints.__getitem__, self._picker.order(scores, chance)))

    def explain(
        self, request: InferenceRequest, endpoints: Sequence[Endpoint], loads: Loads, chance: Chance
    ) -> list[Ranked]:
        """Return what `rank` would, with scores and reasons."""
        strategy = self.strategies[request.strategy]
        scores = strategy.score(request, endpoints, loads)
        reasons = strategy.reasons(request, endpoints, loads)
        return [Ranked(endpoints[i], scores[i], reasons[i]) for i in self._picker.order(scores, chance)]
