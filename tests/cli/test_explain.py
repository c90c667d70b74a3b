"""`pybrix explain` against a brain."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.explain import explain as command
from pybrix.cli.explain_commands import render_list, render_request
from pybrix.gateway.explanations import render_trace
from tests.gateway.test_explanations import asked, decided, record, world
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import make_pod
from tests.support.podapi import PodApi
from tests.support.waiting import until


@pytest_asyncio.fixture
async def brain() -> AsyncIterator[BrainAddress]:
    with tempfile.TemporaryDirectory(prefix="ex") as name:
        address = BrainAddress(Path(name) / "run", Path(name) / "gateway")
        config = GatewayConfiguration()
        pods = [make_pod("a", ip="127.64.0.1"), make_pod("b", ip="127.64.0.2")]
        # The brain of this process would log into the output of the commands.
        with capture_logs():
            async with running_brain(address, PodApi(*pods), config):
                yield address


async def run(brain: BrainAddress, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, command, [*arguments, "--run-dir", str(brain.run_dir)])


def end_of(reservation: str, host: str) -> dict[str, Any]:
    done = {"reservation": reservation, "type": "DownstreamEnd", "upstream": host, "status": 200, "attempts": 1}
    return {**done, "ttft_ms": 7, "duration_ms": 90, "prompt_tokens": 11, "completion_tokens": 3, "cached_tokens": 8}


async def test_a_request_is_explained_from_choice_to_end(brain: BrainAddress) -> None:
    _, headers, _ = await brain.decide()
    reservation, host = headers["x-pybrix-reservation"], headers["x-pybrix-endpoints"].partition(",")[0]
    running = await run(brain, reservation)
    assert "none yet: it runs" in running.output
    assert "0 requests in flight" in running.output

    await brain.log(end_of(reservation, host))
    await until(brain.is_idle)
    ended = await run(brain, reservation)
    assert "ended 200, first byte after 7 ms, 90 ms in all" in ended.output
    assert "11 prompt tokens (8 cached), 3 generated" in ended.output
    document = msgspec.json.decode((await run(brain, reservation, "-o", "json")).output)
    assert document["outcome"]["host"] == host
    assert len(document["candidates"]) == 2


async def test_requests_are_listed_refused_ones_too(brain: BrainAddress) -> None:
    assert (await run(brain)).output == "No request has come yet.\n"
    await brain.decide()
    await brain.decide("nothing")
    head, *rows = (await run(brain)).output.splitlines()
    assert head.split()[0] == "REQUEST"
    assert sorted(row.split()[-2] for row in rows) == ["404", "running"]
    listed = msgspec.json.decode((await run(brain, "--limit", "1", "-o", "json")).output)
    assert len(listed["requests"]) == 1


async def test_what_would_happen_is_told_without_doing_it(brain: BrainAddress) -> None:
    told = await run(brain, "--model", "m", "--routing-strategy", "random")
    assert "strategy random" in told.output
    assert "Would go   to " in told.output
    refused = await run(brain, "--model", "nothing")
    assert refused.output.startswith("Refused    404 model_unknown: ")
    assert refused.exit_code == 1
    unknown = await run(brain, "--model", "m", "--routing-strategy", "nope", "-o", "json")
    assert (unknown.exit_code, msgspec.json.decode(unknown.output)["refused"]["status"]) == (1, 400)
    assert await brain.held() == 0


async def test_a_request_that_is_not_kept_is_said_with_a_remedy(brain: BrainAddress) -> None:
    missing = await run(brain, "nobody/knows?it")
    assert isinstance(missing.exception, UsageError)
    assert str(missing.exception).startswith("the brain keeps no request nobody/knows?it (")


def test_one_thing_is_asked_at_a_time() -> None:
    told = CliRunner().invoke(command, ["id", "--model", "m"])
    assert told.exit_code == 2
    assert "exclude each other" in told.output


def test_filters_fallbacks_and_losses_have_words() -> None:
    told = world()
    told.director.decide(msgspec.structs.replace(asked("filtered"), external_filter="disk=ssd"))
    told.director.account(record(None, request_id="alone", flags="UF"))
    decided(told, asked("lost"))
    told.clock.seconds += 1000
    told.director.expire()

    def text(key: str) -> str:
        trace = told.director.history.find(key)
        assert trace is not None
        return render_request(render_trace(trace))

    assert "EXCLUDED" in text("filtered")
    assert "it has no label disk" in text("filtered")
    assert "by Envoy, without the brain" in text("alone")
    assert "Envoy's flags UF" in text("alone")
    assert "unknown: nothing more was heard of it" in text("lost")
    assert "Reasons were not kept" in text("lost")


def test_a_list_shows_what_is_unknown_as_dashes() -> None:
    row = {"requestId": "", "at": "now", "model": "", "strategy": "", "endpoint": "", "state": "s", "durationMs": None}
    assert render_list([row]).splitlines()[1].split() == ["-", "now", "-", "-", "-", "s", "-"]
