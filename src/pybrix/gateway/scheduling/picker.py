"""Pickers: how scores become an order. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.gateway.framework.plugins import Chance


class BestFirst:
    """The best score first; equal scores in an order of their own for every request, favoured ones before others."""

    def order(self, scores: Sequence[float], chance: Chance, favoured: Sequence[bool] | None = None) -> Sequence[int]:
        count = len(scores)
        if count == 1:
            return (0,)
        if len(set(scores)) == count:
            return sorted(range(count), key=scores.__getitem__, reverse=True)
        draw = chance.random
        # Draws are below 1: adding one keeps the order among those that are not favoured.
        places = [draw() for _ in scores] if favoured is None else [draw() + (not each) for each in favoured]
        order = sorted(range(count), key=places.__getitem__)
        # A stable sort leaves equal scores in their random order. Two sorts by numbers are cheaper than one by pairs.
        order.sort(key=scores.__getitem__, reverse=True)
        return order
