"""Tokens that each user was served lately, counted where they compete: by model. Pure; time is an argument.

    t(user) = sum of amounts, each * exp(-age / TAU_S)

All counts of a model fall at the same rate, so that the heaviest user stays the heaviest while nothing is added: who it
is need not be searched for. Users who were not seen for `FORGET_S` are forgotten, and beyond `MAX_USERS` those who were
not seen for longest.
"""

from __future__ import annotations

import math

TAU_S = 300.0
FORGET_S = 5 * TAU_S
MAX_USERS = 65_536

Scope = tuple[str, str]
"""Namespace and name of the model on whose engines the users compete."""


class UserTokens:
    """Counts by model and user.

    Args:
        max_users: of all models together.
    """

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        # Least recently used first.
        self._counts: dict[tuple[Scope, str], tuple[float, float]] = {}
        self._heaviest: dict[Scope, str] = {}
        self.journal: dict[tuple[Scope, str], float] | None = None
        """Where amounts are added up for other gateways; None: nowhere. Who set it takes them out."""

    def add(self, scope: Scope, user: str, amount: float, now_s: float) -> None:
        """Count an amount; a negative one corrects what was counted before."""
        if self.journal is not None:
            key = (scope, user)
            self.journal[key] = self.journal.get(key, 0.0) + amount
        self.shift(scope, user, amount, now_s)

    def shift(self, scope: Scope, user: str, amount: float, now_s: float) -> None:
        """Count an amount that other gateways served, or served less than was said before."""
        key = (scope, user)
        count = max(0.0, self.of(scope, user, now_s) + amount)
        self._counts.pop(key, None)
        self._counts[key] = (count, now_s)
        heaviest = self._heaviest.get(scope)
        if heaviest is None or count > self.of(scope, heaviest, now_s):
            self._heaviest[scope] = user
        self._forget(now_s)

    def of(self, scope: Scope, user: str, now_s: float) -> float:
        """Return what the user was served."""
        found = self._counts.get((scope, user))
        return found[0] * math.exp((found[1] - now_s) / TAU_S) if found is not None else 0.0

    def heaviest(self, scope: Scope, now_s: float) -> float:
        """Return what the user was served who was served most.

        It may be a little too low for a while: after a correction, or when that user was forgotten.
        """
        user = self._heaviest.get(scope)
        return self.of(scope, user, now_s) if user is not None else 0.0

    def _forget(self, now_s: float) -> None:
        counts = self._counts
        while counts:
            oldest = next(iter(counts))
            if len(counts) <= self._max_users and now_s - counts[oldest][1] <= FORGET_S:
                return
            del counts[oldest]
            scope, user = oldest
            if self._heaviest.get(scope) == user:
                del self._heaviest[scope]

    def __len__(self) -> int:
        return len(self._counts)
