"""What ended requests teach about an endpoint or a model, recent ones counting more. Pure; time is an argument.

weight of what is t seconds old = exp(-t / TAU_S)
mean = sum(weight * value) / sum(weight)
rate = sum(weight * tokens) / TAU_S

All sums fade at the same rate, so those of several gateways add up: what others learnt is added to the own sums, and
taken out again to tell them what is this gateway's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import add

from pybrix.gateway.framework.outcome import AccessRecord

TAU_S = 60.0
MIN_PREFILL_TOKENS = 128
"""A prompt that is shorter measures overheads, not the prefill."""
_FAILED = 500
_FORGOTTEN = 1e-100
"""Weight below which a mean counts as unknown: long before the smallest numbers lose their digits."""


Sums = tuple[float, ...]
"""Faded sums at one moment."""
_NOISE = 1e-9
"""Share of a sum below which a difference is rounding."""


def fade(sums: Sums, age_s: float, tau_s: float = TAU_S) -> Sums:
    """Return what is left of sums after some time."""
    kept = math.exp(-age_s / tau_s)
    return tuple([each * kept for each in sums])


def _less(total: Sums, part: Sums) -> Sums:
    """Return the rest, without what is but rounding."""
    return tuple([a - b if a - b > a * _NOISE else 0.0 for a, b in zip(total, part, strict=True)])


class DecayedMean:
    """A mean in which what is `TAU_S` older counts 1/e."""

    __slots__ = ("_elsewhere", "_last_s", "_sum", "_weight")

    WIDTH = 2
    """How many sums it has: of values, of weights."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0
        self._last_s = 0.0
        self._elsewhere: tuple[float, Sums] | None = None

    def add(self, value: float, now_s: float) -> None:
        kept = math.exp((self._last_s - now_s) / TAU_S) if self._weight else 0.0
        self._sum = self._sum * kept + value
        self._weight = self._weight * kept + 1.0
        self._last_s = now_s

    @property
    def value(self) -> float | None:
        """The mean; None before the first value. It does not age: only newer values change it."""
        return self._sum / self._weight if self._weight else None

    def own(self, now_s: float) -> Sums:
        """Return the sums of what was added here, others' left out."""
        total = fade((self._sum, self._weight), now_s - self._last_s)
        if self._elsewhere is None:
            return total
        at_s, sums = self._elsewhere
        return _less(total, fade(sums, now_s - at_s))

    def set_elsewhere(self, sums: Sums, now_s: float) -> None:
        """Take in the sums of others, in place of those they had before."""
        total, weight = self.own(now_s)
        self._sum, self._weight, self._last_s = total + sums[0], weight + sums[1], now_s
        self._elsewhere = (now_s, sums)

    def restore(self, sums: Sums, now_s: float) -> None:
        """Add sums of this gateway's own past."""
        total, weight = fade((self._sum, self._weight), now_s - self._last_s)
        self._sum, self._weight, self._last_s = total + sums[0], weight + sums[1], now_s


class LearntRates:
    """Implements `framework.signals.Learnt`. All means and rates fade together, in one step a record."""

    __slots__ = (
        "_answers",
        "_at_s",
        "_attempts",
        "_completion_tokens",
        "_elsewhere",
        "_failures",
        "_latency_ms",
        "_prefill_rates",
        "_prefills",
        "_prompt_tokens",
        "_streams",
        "_tpot_ms",
        "_ttft_ms",
    )

    SUMS = (
        *("_attempts", "_failures", "_answers", "_latency_ms", "_streams", "_ttft_ms", "_tpot_ms"),
        *("_prefills", "_prefill_rates", "_prompt_tokens", "_completion_tokens"),
    )
    """In the order in which gateways tell each other."""

    def __init__(self) -> None:
        self._elsewhere: tuple[float, Sums] | None = None
        self._at_s = 0.0
        self._attempts = self._failures = 0.0
        self._answers = self._latency_ms = 0.0
        self._streams = self._ttft_ms = self._tpot_ms = 0.0
        self._prefills = self._prefill_rates = 0.0
        self._prompt_tokens = self._completion_tokens = 0.0

    def _fade(self, now_s: float) -> None:
        # A mean is a quotient of two of these: fading both leaves it as it is.
        kept = math.exp((self._at_s - now_s) / TAU_S) if self._attempts else 0.0
        self._at_s = now_s
        self._attempts *= kept
        self._failures *= kept
        self._answers *= kept
        self._latency_ms *= kept
        self._streams *= kept
        self._ttft_ms *= kept
        self._tpot_ms *= kept
        self._prefills *= kept
        self._prefill_rates *= kept
        self._prompt_tokens *= kept
        self._completion_tokens *= kept

    def add(self, record: AccessRecord, now_s: float) -> None:
        """Learn from one request that ended."""
        self._fade(now_s)
        status = record.status
        self._attempts += 1.0
        if not 0 < status < _FAILED:
            self._failures += 1.0
        if not 200 <= status < 300:
            return
        duration_ms, ttft_ms = record.duration_ms, record.ttft_ms
        prompt, completion = record.prompt_tokens, record.completion_tokens
        self._answers += 1.0
        self._latency_ms += duration_ms
        self._prompt_tokens += prompt
        self._completion_tokens += completion
        # A response that is no stream comes whole: its first byte is its last, and tells nothing of the first token.
        if ttft_ms is None or completion <= 1 or duration_ms <= ttft_ms * 1.01 + 1.0:
            return
        self._streams += 1.0
        self._ttft_ms += ttft_ms
        self._tpot_ms += (duration_ms - ttft_ms) / (completion - 1)
        uncached = prompt - record.cached_tokens
        if uncached >= MIN_PREFILL_TOKENS and ttft_ms > 0:
            self._prefills += 1.0
            self._prefill_rates += 1000.0 * uncached / ttft_ms

    def add_failure(self, now_s: float) -> None:
        """Learn from an attempt that was retried elsewhere."""
        self._fade(now_s)
        self._attempts += 1.0
        self._failures += 1.0

    @property
    def at_s(self) -> float:
        """When something was last learnt, here or elsewhere."""
        return self._at_s

    def _total(self, now_s: float) -> Sums:
        return fade(tuple([getattr(self, name) for name in self.SUMS]), now_s - self._at_s)

    def _assign(self, sums: Iterable[float], now_s: float) -> None:
        for name, value in zip(self.SUMS, sums, strict=True):
            setattr(self, name, value)
        self._at_s = now_s

    def own(self, now_s: float) -> Sums:
        """Return the sums of what this gateway's requests taught, others' left out."""
        total = self._total(now_s)
        if self._elsewhere is None:
            return total
        at_s, sums = self._elsewhere
        return _less(total, fade(sums, now_s - at_s))

    def set_elsewhere(self, sums: Sums, now_s: float) -> None:
        """Take in what others learnt, in place of what they had learnt before."""
        self._assign(map(add, self.own(now_s), sums), now_s)
        self._elsewhere = (now_s, sums)

    def restore(self, sums: Sums, now_s: float) -> None:
        """Add what this gateway learnt before it was started again."""
        self._assign(map(add, self._total(now_s), sums), now_s)

    @property
    def ttft_ms(self) -> float | None:
        return self._ttft_ms / self._streams if self._streams > _FORGOTTEN else None

    @property
    def tpot_ms(self) -> float | None:
        return self._tpot_ms / self._streams if self._streams > _FORGOTTEN else None

    @property
    def latency_ms(self) -> float | None:
        return self._latency_ms / self._answers if self._answers > _FORGOTTEN else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return self._prefill_rates / self._prefills if self._prefills > _FORGOTTEN else None

    @property
    def failure_ratio(self) -> float:
        return self._failures / self._attempts if self._attempts > _FORGOTTEN else 0.0

    def prompt_tokens_per_s(self, now_s: float) -> float:
        return self._per_s(self._prompt_tokens, now_s)

    def completion_tokens_per_s(self, now_s: float) -> float:
        return self._per_s(self._completion_tokens, now_s)

    def _per_s(self, tokens: float, now_s: float) -> float:
        return tokens * math.exp((self._at_s - now_s) / TAU_S) / TAU_S if tokens else 0.0


class LearntModel:
    """What the requests of one model are like: sizes by which the next ones are estimated."""

    __slots__ = ("_bytes_per_token", "_completion")

    FIRST_BYTES_PER_TOKEN = 4.0
    FIRST_COMPLETION_TOKENS = 256
    WIDTH = 2 * DecayedMean.WIDTH

    def __init__(self) -> None:
        self._bytes_per_token = DecayedMean()
        self._completion = DecayedMean()

    def add(self, body_bytes: int, record: AccessRecord, now_s: float) -> None:
        """Learn from one request that ended."""
        if not 200 <= record.status < 300:
            return
        if record.prompt_tokens and body_bytes:
            self._bytes_per_token.add(body_bytes / record.prompt_tokens, now_s)
        if record.completion_tokens:
            self._completion.add(record.completion_tokens, now_s)

    def own(self, now_s: float) -> Sums:
        """Return the sums of what this gateway's requests taught, others' left out."""
        return self._bytes_per_token.own(now_s) + self._completion.own(now_s)

    def set_elsewhere(self, sums: Sums, now_s: float) -> None:
        """Take in what others learnt, in place of what they had learnt before."""
        self._bytes_per_token.set_elsewhere(sums[:2], now_s)
        self._completion.set_elsewhere(sums[2:], now_s)

    def restore(self, sums: Sums, now_s: float) -> None:
        """Add what this gateway learnt before it was started again."""
        self._bytes_per_token.restore(sums[:2], now_s)
        self._completion.restore(sums[2:], now_s)

    def prompt_tokens(self, body_bytes: int) -> int:
        """Return the estimate for a body."""
        return int(body_bytes / (self._bytes_per_token.value or self.FIRST_BYTES_PER_TOKEN))

    def decode_tokens(self, max_tokens: int | None) -> int:
        """Return what a request is expected to generate."""
        expected = round(self._completion.value or self.FIRST_COMPLETION_TOKENS)
        return expected if max_tokens is None else min(expected, max_tokens)
