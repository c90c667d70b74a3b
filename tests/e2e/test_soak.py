"""A real installation under steady load while pods come and go: nothing fails, memory is flat, nothing is left over.

Ten minutes, in `make soak` alone. What the brain keeps is held to the same in tests/gateway/test_soak.py, in a moment.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from time import monotonic

import pytest

from tests.support.installation import PYBRIX, Installation, eventually, run
from tests.support.traffic import steady_traffic

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

DURATION_S = 600
WARM_UP_S = 180
SAMPLE_S = 15
SIZES = ("5", "2", "4", "3")


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up("--simulate", "3", "--routing-strategy", "prefix-affinity")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def resident_bytes(installation: Installation) -> dict[str, int]:
    """Return the memory of each component and its children (Envoy is a child of its starter)."""
    found = {}
    for name in ("brain", "envoy", "controllers"):
        process = installation.process(name)
        found[name] = sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    return found


async def test_ten_minutes(installation: Installation) -> None:
    begin_s, samples = monotonic(), list[dict[str, int]]()
    traffic = steady_traffic(installation.gateway_url, "simulated")
    async with traffic.running() as tally:
        for size in itertools.cycle(SIZES):
            await installation.kubectl("scale", "deployment/simulated", "--replicas", size)
            await asyncio.sleep(SAMPLE_S)  # the passing of time is the test's subject
            if monotonic() - begin_s > WARM_UP_S:
                samples.append(resident_bytes(installation))
            if monotonic() - begin_s > DURATION_S:
                break
    assert tally.failed == []
    assert tally.cut_streams == []
    assert tally.succeeded > 50 * DURATION_S
    third = len(samples) // 3
    for name in samples[0]:
        early = sum(each[name] for each in samples[:third]) / third
        late = sum(each[name] for each in samples[-third:]) / third
        assert late < 1.1 * early, f"{name} grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB"

    async def is_idle() -> bool:
        shown = await run(*PYBRIX, "gateway", "status", "--data-dir", str(installation.data_dir), "-o", "json")
        models = json.loads(shown.checked())["models"]
        return bool(models) and not any(model["requestsInFlight"] for model in models)

    await eventually(is_idle, "nothing is in flight", timeout_s=60)
