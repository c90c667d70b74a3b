"""The steady load of end-to-end tests: half of the requests are streams, every answer is read to its end."""

from __future__ import annotations

from pybrix.bench.driver import Driver, expect_any
from pybrix.bench.traffic import Kind, Mix
from pybrix.bench.verification import expected_of_simulator


def steady_traffic(
    url: str, model: str, *, rate_per_s: float = 60, is_text_known: bool = True, strategy: str = ""
) -> Driver:
    """Return a load of short answers. `is_text_known`: the model is a simulated base model with the default seed."""
    return Driver(
        url,
        Mix(model, {Kind.SHORT: 1, Kind.STREAM: 1}, short_tokens=20),
        rate_per_s=rate_per_s,
        expect=expected_of_simulator if is_text_known else expect_any,
        strategy=strategy,
        silence_limit_s=15,
    )
