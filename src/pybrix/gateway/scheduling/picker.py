"""Pickers: how scores become an order. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.types import Chance


class BestFirst:
    """The best score first; equal scores in an order of their own for every request."""

    def order(self, scores: Sequence[float], chance: Chance) -> Sequence[int]:
        if len(scores) == 1:
            return (0,)
        draw = chance.random
        keys = [(-score, draw()) for score in scores]
        return sorted(range(len(keys)), key=keys.__getitem__)
