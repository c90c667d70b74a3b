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
        places = [draw() for _ in scores]
        order = sorted(range(len(places)), key=places.__getitem__)
        # A stable sort leaves equal scores in their random order. Two sorts by numbers are cheaper than one by pairs.
        order.sort(key=scores.__getitem__, reverse=True)
        return order
