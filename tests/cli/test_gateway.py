"""`pybrix gateway` as processes."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from pybrix.api.identity import Uid
from pybrix.base.errors import UsageError
from pybrix.cli.gateway import gateway as command
from pybrix.gateway.view.facts import PodFacts
from pybrix.gateway.view.persist import render_view, save_view
from pybrix.gateway.view.snapshot import build_view
from pybrix.local.layout import Layout
from pybrix.local.state import ProcessRecord, UpState, write_state
from tests.support.brains import BrainAddress
from tests.support.gateway import DEFAULT_STRATEGY
from tests.support.gateway_parts import Engine, free_port
from tests.support.waiting import until

SAVED = build_view([PodFacts(uid=Uid("u"), namespace="default", name="a", model="m", port=21650, address="127.66.2.1")])


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        base = Path(name)
        (base / "gateway").mkdir()
        cluster = {"server": "http://127.0.0.1:1"}
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (base / "kubeconfig").write_text(yaml.safe_dump(document))
        yield base


async def start(place: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "gateway", *arguments),
        *("--gateway-dir", str(place / "gateway"), "--run-dir", str(place / "run")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def start_brain(place: Path) -> asyncio.subprocess.Process:
    return await start(place, "brain", "--kubeconfig", str(place / "kubeconfig"))


async def end(process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    """Signal a process; return its status and what it said."""
    if process.returncode is None:
        process.send_signal(number)
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_a_brain_lives_dies_and_lives_again_while_the_api_is_down(place: Path) -> None:
    save_view(place / "gateway" / "view.json", render_view(SAVED, "2026-01-01T00:00:00Z"))
    address = BrainAddress(place / "run", place / "gateway")
    first = await start_brain(place)
    await until(address.is_ready)
    status, headers, _ = await address.decide()
    assert (status, headers["x-pybrix-endpoints"]) == (200, "127.66.2.1:21650")

    second = await start_brain(place)
    async with asyncio.timeout(60):
        said = (await second.communicate())[0].decode()
    assert second.returncode == 1
    assert said.strip().splitlines()[-1] == (
        f"pybrix: a brain already runs on {place / 'run'} (process {first.pid}) (stop it, or pass another --run-dir)"
    )

    await end(first, signal.SIGKILL)
    third = await start_brain(place)
    await until(address.is_ready)
    assert (await address.decide())[0] == 200
    # The request of the brain that was killed may have been counted again, if its state had come to be saved.
    await address.log({"reservation": headers["x-pybrix-reservation"], "type": "DownstreamEnd", "status": 200})

    async def is_alone() -> bool:
        return await address.held() == 1

    await until(is_alone)

    runner = CliRunner()
    shown = await asyncio.to_thread(runner.invoke, command, ["status", "--run-dir", str(address.run_dir), "-o", "json"])
    assert msgspec.json.decode(shown.output)["view"]["source"] == "persisted"
    shown = await asyncio.to_thread(runner.invoke, command, ["status", "--run-dir", str(address.run_dir)])
    assert "default/m" in shown.output
    shown = await asyncio.to_thread(
        runner.invoke, command, ["explain", "--run-dir", str(address.run_dir), "--model", "m", "-o", "json"]
    )
    assert "1 requests in flight" in msgspec.json.decode(shown.output)["ranking"][0]["why"]

    layout = Layout(place)
    write_state(layout, UpState(ProcessRecord(1, 0.0), "http://127.0.0.1:1", "kubeconfig", str(address.run_dir)))
    shown = await asyncio.to_thread(runner.invoke, command, ["status", "--data-dir", str(place)])
    assert "default/m" in shown.output
    shown = await asyncio.to_thread(runner.invoke, command, ["explain", "--model", "m", "--data-dir", str(place)])
    assert "Would go   to a (127.66.2.1:21650)" in shown.output
    assert "1 requests in flight" in shown.output
    shown = await asyncio.to_thread(runner.invoke, command, ["explain", "--data-dir", str(place), "-o", "json"])
    (kept,) = msgspec.json.decode(shown.output)["requests"]
    assert (kept["model"], kept["endpoint"], kept["state"]) == ("default/m", "a", "running")

    status, said = await end(third)
    address.hang_up()
    assert status == 0, said
    assert list((place / "run").glob("*.sock")) == []


async def test_envoy_and_brain_as_processes_serve_and_stop(place: Path) -> None:
    engine = Engine("a", "127.66.2.1", 21650)
    await engine.start()
    save_view(place / "gateway" / "view.json", render_view(SAVED, "2026-01-01T00:00:00Z"))
    port = free_port()
    envoy = await start(place, "envoy", "--port", str(port))
    brain = await start(place, "brain", "--kubeconfig", str(place / "kubeconfig"), "--port", str(port))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

            async def is_decided() -> bool:
                try:
                    async with client.post("/v1/chat/completions", json={"model": "m"}) as answer:
                        return answer.headers.get("routing-strategy") == DEFAULT_STRATEGY
                except aiohttp.ClientError:
                    return False

            await until(is_decided)
    finally:
        ended = [await end(process) for process in (envoy, brain)]
        await engine.kill()
    assert [status for status, _ in ended] == [0, 0], ended


def test_render_prints_what_envoy_reads(place: Path) -> None:
    save_view(place / "gateway" / "view.json", render_view(SAVED, "2026-01-01T00:00:00Z"))
    options = ["--gateway-dir", str(place / "gateway"), "--run-dir", str(place / "run"), "--port", "21651"]
    shown = CliRunner().invoke(command, ["render", *options])
    assert shown.exit_code == 0, shown.output
    documents = yaml.safe_load(shown.output)
    assert {"envoy-bootstrap.json", "clusters.json", "routes.json", "listeners.json"} <= set(documents)
    assert "127.66.2.1" in shown.output
    assert "21651" in shown.output


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        pytest.param(["status"], "no brain answers on", id="no brain runs"),
        pytest.param(["explain"], "no brain answers on", id="no brain explains"),
        pytest.param(["brain", "--gateway-dir", "g", "--config", "nowhere.yaml"], "nowhere.yaml", id="no such file"),
        pytest.param(
            ["brain", "--gateway-dir", "g", "--routing-strategy", "dice"],
            "$.routingStrategy: there is no strategy 'dice': valid strategies: ",
            id="no such strategy",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(place: Path, arguments: list[str], want: str) -> None:
    shown = CliRunner().invoke(command, [*arguments, "--run-dir", str(place / "run")])
    assert isinstance(shown.exception, UsageError)
    assert want in str(shown.exception)
    assert "\n" not in str(shown.exception)


def test_a_brain_that_is_away_is_told_in_one_sentence(place: Path) -> None:
    shown = CliRunner().invoke(command, ["status", "--run-dir", str(place)])
    socket_path = place / "brain-admin.sock"
    assert str(shown.exception) == f"no brain answers on {socket_path} (is `pybrix gateway brain` running?)"
    shown = CliRunner().invoke(command, ["explain", "--model", "m", "--data-dir", str(place)])
    assert isinstance(shown.exception, UsageError)
    assert str(shown.exception).startswith(f"nothing runs on {place} (start it with `pybrix up --data-dir {place}`")
