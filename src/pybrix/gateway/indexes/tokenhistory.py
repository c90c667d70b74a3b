"""What was routed to each engine lately, in tokens: sums over a sliding window. Pure; time is an argument.

The window is cut into slices, so that an engine takes a bounded number of numbers however many requests there are. What
is learnt later (tokens that a request really generated) is added to the slice of that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from pybrix.gateway.framework.types import EndpointId

WINDOW_S = 180.0
SLICES = 18
_SLICE_S = WINDOW_S / SLICES


class Tokens(NamedTuple):
    """`cached` are the tokens of `prompt` that were expected in the engine's cache; `decode` those generated."""

    prompt: int = 0
    cached: int = 0
    decode: int = 0

    @property
    def hit_ratio(self) -> float:
        """Share of prompts that was cached."""
        return self.cached / self.prompt if self.prompt else 0.0


NO_TOKENS = Tokens()


class _Window:
    __slots__ = ("cached", "decode", "own", "prompt", "slices")

    def __init__(self) -> None:
        self.slices: deque[tuple[int, list[int]]] = deque()
        self.prompt = self.cached = self.decode = 0
        self.own = NO_TOKENS
        """All that this gateway ever counted here."""

    def forget(self, before: int) -> None:
        while self.slices and self.slices[0][0] < before:
            _, (prompt, cached, decode) = self.slices.popleft()
            self.prompt -= prompt
            self.cached -= cached
            self.decode -= decode


class TokenHistory:
    """Windows by engine."""

    def __init__(self) -> None:
        self._windows: dict[EndpointId, _Window] = {}

    def add(self, endpoint: EndpointId, tokens: Tokens, now_s: float) -> None:
        """Count tokens; negative numbers correct what was counted before."""
        own = (window := self._window(endpoint)).own
        window.own = Tokens(own.prompt + tokens.prompt, own.cached + tokens.cached, own.decode + tokens.decode)
        self._count(window, tokens, now_s)

    def add_elsewhere(self, endpoint: EndpointId, tokens: Tokens, now_s: float) -> None:
        """Count tokens that another gateway routed there just now."""
        self._count(self._window(endpoint), tokens, now_s)

    def adopt(self, endpoint: EndpointId, tokens: Tokens, now_s: float) -> None:
        """Start with sums that another gateway knows, where less is known here: as if spread over the whole window."""
        window = self._window(endpoint)
        if sum(tokens) <= window.prompt + window.cached + window.decode:
            return
        window.prompt, window.cached, window.decode = tokens
        window.slices.clear()
        last = int(now_s / _SLICE_S)
        for place in range(SLICES):
            share = [each * (place + 1) // SLICES - each * place // SLICES for each in tokens]
            window.slices.append((last - SLICES + 1 + place, share))

    def own(self, endpoint: EndpointId) -> Tokens:
        """Return all that this gateway ever counted there, other gateways' left out."""
        window = self._windows.get(endpoint)
        return window.own if window is not None else NO_TOKENS

    def _window(self, endpoint: EndpointId) -> _Window:
        window = self._windows.get(endpoint)
        if window is None:
            window = self._windows[endpoint] = _Window()
        return window

    def _count(self, window: _Window, tokens: Tokens, now_s: float) -> None:
        at = int(now_s / _SLICE_S)
        if not window.slices or window.slices[-1][0] != at:
            window.slices.append((at, [0, 0, 0]))
            window.forget(at - SLICES)
        kept = window.slices[-1][1]
        for place, value in enumerate(tokens):
            kept[place] += value
        window.prompt += tokens.prompt
        window.cached += tokens.cached
        window.decode += tokens.decode

    def of(self, endpoint: EndpointId, now_s: float) -> Tokens:
        """Return the sums over the last `WINDOW_S`, to within a slice."""
        window = self._windows.get(endpoint)
        if window is None:
            return NO_TOKENS
        window.forget(int(now_s / _SLICE_S) - SLICES)
        # A correction may outlive what it corrects.
        prompt = max(0, window.prompt)
        return Tokens(prompt, min(prompt, max(0, window.cached)), max(0, window.decode))

    def retain(self, live: set[EndpointId]) -> None:
        """Forget every endpoint that is not live."""
        for endpoint in [known for known in self._windows if known not in live]:
            del self._windows[endpoint]

    def collect(self) -> bool:
        """Nothing is left over for later."""
        return False

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[EndpointId]:
        return iter(list(self._windows))
