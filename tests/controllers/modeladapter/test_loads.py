"""How busy an engine is, from two of its metrics pages."""

from __future__ import annotations

import pytest

from pybrix.controllers.modeladapter.loads import PageAt, load_of
from pybrix.controllers.modeladapter.state import PodLoad
from pybrix.engine.page import Average, EnginePage


def page(requests: float, seconds: float, prompt: float, generated: float, started_s: float = 1000.0) -> EnginePage:
    return EnginePage(
        e2e=Average(seconds, requests), prompt_tokens=prompt, generation_tokens=generated, started_s=started_s
    )


@pytest.mark.parametrize(
    ("before", "now", "want"),
    [
        pytest.param(None, PageAt(page(10, 20, 300, 600), 1060.0), PodLoad(2.0, 1200.0), id="since the engine started"),
        pytest.param(
            PageAt(page(10, 20, 300, 600), 1060.0),
            PageAt(page(12, 21, 310, 640), 1070.0),
            PodLoad(0.5, 360.0),
            id="between two pages",
        ),
        pytest.param(
            PageAt(page(10, 20, 300, 600), 1060.0),
            PageAt(page(10, 20, 300, 600), 1070.0),
            PodLoad(2.0, 0.0),
            id="nothing happened between them",
        ),
        pytest.param(
            PageAt(page(10, 20, 300, 600), 1060.0),
            PageAt(page(2, 1, 10, 10, started_s=1065.0), 1075.0),
            PodLoad(0.5, 180.0),
            id="the engine restarted between them",
        ),
        pytest.param(
            PageAt(page(10, 20, 300, 600), 1060.0),
            PageAt(page(11, 20, 300, 600), 1061.0),
            PodLoad(20 / 11, 1200 * 60 / 61),
            id="too near to tell a rate",
        ),
        pytest.param(None, PageAt(page(0, 0, 0, 0), 1060.0), PodLoad(0.0, 0.0), id="no request yet"),
        pytest.param(None, PageAt(EnginePage(), 1060.0), PodLoad(), id="a page without the series"),
    ],
)
def test_loads(before: PageAt | None, now: PageAt, want: PodLoad) -> None:
    found = load_of(before, now)
    assert found.latency_s == pytest.approx(want.latency_s)
    assert found.tokens_per_minute == pytest.approx(want.tokens_per_minute)
