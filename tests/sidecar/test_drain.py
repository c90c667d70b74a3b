"""When an engine counts as drained."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from pybrix.base.errors import UsageError
from pybrix.engine.metrics import Engine
from pybrix.sidecar.drain import DrainOutcome, DrainRules, Load, wait_until_drained
from pybrix.sidecar.load import EngineLoad
from pybrix.simulator.model import ModelOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import simulated

RULES = DrainRules(deadline_s=10.0, settle_s=1.0, poll_interval_s=0.5, idle_polls=3)
GONE = Load(None, is_gone=True)
SILENT = Load(None, problem="no answer")


@dataclass
class VirtualTime:
    """A clock that only sleeping moves."""

    now_s: float = 0.0
    look_s: float = 0.0
    script: list[Load] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def fetch(self, timeout_s: float) -> Load:
        """Return the next load of the script; the last one stays."""
        self.now_s += min(self.look_s, timeout_s)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def drain(*loads: Load, look_s: float = 0.0, rules: DrainRules = RULES) -> DrainOutcome:
    time = VirtualTime(look_s=look_s, script=list(loads))
    return wait_until_drained(rules, time.fetch, time, time.sleep)


@pytest.mark.parametrize(
    ("loads", "reason", "waited_s"),
    [
        pytest.param([Load(0)], "idle", 2.0, id="an idle engine: the settle time, then three looks"),
        pytest.param([Load(2)] * 6 + [Load(0)], "idle", 4.0, id="three looks after the last request"),
        pytest.param([Load(0)] * 4 + [Load(1)] + [Load(0)], "idle", 3.5, id="a late request starts the count anew"),
        pytest.param([Load(3)], "deadline", 10.0, id="requests that do not end"),
        pytest.param([GONE], "gone", 0.0, id="nobody listens"),
        pytest.param([Load(5), Load(5), GONE], "gone", 1.0, id="it ends meanwhile"),
        pytest.param(
            [Load(0, n * 10.0) for n in range(6)], "idle", 4.0, id="short requests that no look catches leave tokens"
        ),
        pytest.param([Load(0, 7.0)] * 2 + [SILENT, Load(0, 9.0)], "idle", 3.0, id="unseen while it was silent, too"),
        pytest.param([SILENT], "deadline", 10.0, id="an engine that says nothing is not idle"),
        pytest.param([SILENT] * 4 + [Load(0)], "idle", 3.0, id="it speaks again"),
    ],
)
def test_the_wait_ends(loads: list[Load], reason: str, waited_s: float) -> None:
    outcome = drain(*loads)
    assert outcome.reason == reason
    assert outcome.waited_s == pytest.approx(waited_s)


def test_slow_looks_do_not_pass_the_deadline_by_much() -> None:
    outcome = drain(SILENT, look_s=60.0)
    assert outcome.reason == "deadline"
    assert outcome.waited_s <= 10.2


def test_a_deadline_of_zero_looks_once() -> None:
    assert drain(Load(1), rules=DrainRules(deadline_s=0.0)).polls == 1


def test_the_outcome_is_one_line() -> None:
    assert str(drain(Load(7), Load(2), Load(0))) == "idle after 2.0 s: 0 requests left, at most 7 seen in 5 polls"
    assert str(drain(SILENT)).endswith("unknown requests left, at most 0 seen in 21 polls (no answer)")


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("10.0.0.1:8000", "ftp://x", "http://"):
        with pytest.raises(UsageError, match="example"):
            EngineLoad(url, Engine.VLLM)


async def test_a_real_engine_is_asked(unused_tcp_port: int) -> None:
    options = SimulatorOptions(("m",), model=ModelOptions(max_num_seqs=1, decode_step_s=3600.0))
    async with simulated(options) as engine:
        load = EngineLoad(engine.url, Engine.VLLM)
        assert await asyncio.to_thread(load.fetch, 5.0) == Load(0)
        body = {"prompt": "x", "stream": True}
        streams = [await engine.client.post("/v1/completions", json=body) for _ in range(3)]
        busy = await asyncio.to_thread(load.fetch, 5.0)
        assert busy.requests == 3
        wrong = await asyncio.to_thread(EngineLoad(engine.url, Engine.SGLANG).fetch, 5.0)
        assert wrong.requests is None
        assert "--engine sglang" in wrong.problem
        lost = await asyncio.to_thread(EngineLoad(engine.url + "/nowhere", Engine.VLLM).fetch, 5.0)
        assert lost == Load(None, problem="/nowhere/metrics answers 404")
        for stream in streams:
            stream.close()
    async with simulated(SimulatorOptions(("m",))) as engine:
        load = EngineLoad(engine.url, Engine.VLLM)
        async with engine.client.post("/v1/completions", json={"prompt": "x", "max_tokens": 5}) as response:
            assert response.status == 200
        after = await asyncio.to_thread(load.fetch, 5.0)
        assert (after.requests, after.tokens) == (0, 6)
    nobody = EngineLoad(f"http://127.0.0.1:{unused_tcp_port}", Engine.VLLM)
    assert nobody.fetch(1.0) == GONE
