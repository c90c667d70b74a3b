"""The commands around engines, as a user types them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pybrix.base.errors import UsageError
from pybrix.cli.chat import chat
from pybrix.cli.datadir import data_dir
from pybrix.cli.main import COMMANDS
from pybrix.cli.sidecar import _ENGINES
from pybrix.engine.metrics import Engine
from pybrix.simulator.failures import parse_failures
from pybrix.simulator.model import ModelOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import simulated, simulator_process
from tests.support.waiting import until_now

OPTIONS = SimulatorOptions(("m", "second"), time_scale=0.0)


async def run(*arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run `pybrix ARGUMENTS` with nothing but this environment; return exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **(env or {})},
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize(
    "command", ["simulator", "llamacpp", "sidecar", "sidecar drain", "models", "models pull", "models list", "chat"]
)
async def test_help_has_examples(command: str) -> None:
    code, out, _ = await run(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"pybrix {command.split()[0]}" in out
    assert command.split()[0] in COMMANDS


def test_the_data_directory_is_absolute() -> None:
    assert data_dir(Path("x")) == Path.cwd() / "x"
    assert data_dir(None) == Path.home() / ".local/share/pybrix"
    assert data_dir(Path("~/y")) == Path.home() / "y"


def test_the_drain_hook_knows_every_engine() -> None:
    assert set(_ENGINES) == set(Engine)


async def test_chat_prints_the_answer_and_where_it_comes_from() -> None:
    async with simulated(OPTIONS) as engine:
        want = (await engine.chat("hello there"))["choices"][0]["message"]["content"]
        code, out, err = await run("chat", "hello", "there", "--url", engine.url)
        assert (code, out) == (0, want + "\n")
        assert err.startswith("-- model m, ")
        assert "s in all" in err
        assert (await run("chat", "hello there", "--no-stream", "--url", engine.url + "/v1"))[1] == out
        assert (await run("chat", "-", env={"PYBRIX_URL": engine.url}, stdin=b"hello there"))[1] == out
        other = await run("chat", "hello there", "--model", "second", "--system", "Be brief.", "--url", engine.url)
        assert other[1] != out
        assert "model second" in other[2]


async def test_chat_as_json_has_all_parts() -> None:
    async with simulated(OPTIONS) as engine:
        code, out, err = await run("chat", "hi", "-o", "json", "--max-tokens", "3", "--url", engine.url)
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert (answer["model"], answer["finish_reason"], answer["usage"]["completion_tokens"]) == ("m", "length", 3)
    assert answer["pod"] is None
    assert len(answer["answer"]) == 12


async def test_chat_finds_the_running_installation(tmp_path: Path) -> None:
    async with simulated(OPTIONS) as engine:
        state = {
            "supervisor": {"pid": 1, "started_s": 0.0},
            "gateway_url": engine.url,
            "kubeconfig": "",
            "run_dir": "",
        }
        (tmp_path / "up.json").write_text(json.dumps(state))
        code, out, _ = await run("chat", "hi", env={"PYBRIX_DATA_DIR": str(tmp_path)})
        assert code == 0
        assert out == (await engine.chat("hi"))["choices"][0]["message"]["content"] + "\n"


async def test_chat_says_in_one_line_what_is_wrong(unused_tcp_port: int) -> None:
    nobody = f"http://127.0.0.1:{unused_tcp_port}"
    assert await run("chat", "hi", "--url", nobody) == (
        *(1, "", f"pybrix: nothing answers on {nobody} (start it with `pybrix up`, or give --url)\n"),
    )
    async with simulated(OPTIONS) as engine:
        code, _, err = await run("chat", "hi", "--model", "x", "--url", engine.url)
        assert (code, err.count("\n")) == (1, 1)
        assert "404: The model `x` does not exist." in err
        assert "--model" in err
    cut = replace(OPTIONS, time_scale=1.0, failures=parse_failures(["cut-stream"]))
    async with simulated(cut) as engine:
        code, out, err = await run("chat", "hi", "--url", engine.url)
        assert code == 1
        assert len(out) > 4
        assert err.count("\n") == 1
        assert "ask again" in err
    async with simulated(replace(OPTIONS, api_keys=("k",))) as engine:
        code, _, err = await run("chat", "hi", "--url", engine.url)
        assert (code, err) == (1, "pybrix: 401: Unauthorized (give --api-key)\n")
        assert (await run("chat", "hi", "--url", engine.url, "--api-key", "k"))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sent", "says"),
    [
        (("",), b"", "the question is empty"),
        (("-",), b"  \n", "the question is empty"),
        (("-",), b"caf\xe9", "stdin is no text: 'utf-8' codec can't decode byte 0xe9 in position 3"),
        (("hi", "--api-key", "a\nb"), b"", "the API key has characters that no header can carry"),
        (("hi", "--api-key", "\u00fc"), b"", "the API key has characters that no header can carry"),
    ],
)
def test_chat_sends_no_nonsense(arguments: tuple[str, ...], sent: bytes, says: str) -> None:
    # The port is nobody's: had it been asked, that would be the error.
    got = CliRunner().invoke(chat, ["--url", "http://127.0.0.1:1", *arguments], input=sent)
    assert isinstance(got.exception, UsageError)
    assert str(got.exception).startswith(says)


def test_chat_asks_no_other_installation_than_the_one_that_is_named(tmp_path: Path) -> None:
    got = CliRunner().invoke(chat, ["hi", "--data-dir", str(tmp_path / "none")])
    assert isinstance(got.exception, UsageError)
    assert str(got.exception).startswith(f"nothing runs on {tmp_path / 'none'}")


async def test_drain_waits_for_the_last_request() -> None:
    options = SimulatorOptions(("m",), model=ModelOptions(decode_step_s=0.5))
    async with simulated(options) as engine:
        body = {"prompt": "x", "stream": True, "max_tokens": 200, "ignore_eos": True}
        async with engine.client.post("/v1/completions", json=body) as response:
            await response.content.readline()
            draining = asyncio.create_task(
                run("sidecar", "drain", "--url", engine.url, "--settle-s", "0", "--poll-interval-s", "0.02")
            )
            # It has the answer to the first look when it asks for the second one.
            await until_now(lambda: draining.done() or engine.answered["/metrics"] >= 2)
            assert not draining.done()
        # The client goes away, and with it the last request.
        code, out, _ = await draining
    assert code == 0
    assert out.startswith("pybrix sidecar drain: idle after ")
    assert "at most 1 seen" in out


async def test_drain_ends_well_when_the_engine_is_gone(unused_tcp_port: int) -> None:
    code, out, _ = await run("sidecar", "drain", "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert code == 0
    assert "gone after 0." in out


async def test_a_misspelt_option_of_the_simulator_is_refused() -> None:
    code, _, err = await run("simulator", "--model", "m", "--max-num-sqs", "4")
    assert code == 2
    assert "No such option" in err


async def test_two_models_are_one_too_many() -> None:
    code, _, err = await run("simulator", "a", "--model", "b")
    assert (code, err) == (1, "pybrix: two models: a and --model b (give one)\n")


async def test_the_simulator_reads_its_environment() -> None:
    env = {"PYBRIX_SIMULATOR_MODEL": "from-env", "PYBRIX_SIMULATOR_NUM_GPU_BLOCKS_OVERRIDE": "7"}
    code, _, err = await run("simulator", env=env)
    assert code == 1
    assert "does not fit a KV cache of 112" in err


async def test_the_simulator_answers_with_its_seed() -> None:
    texts = []
    for seed in ("1", "1", "2"):
        async with simulator_process("--seed", seed, "--time-scale", "0") as simulator:
            texts.append((await run("chat", "hi", "--url", simulator.url))[1])
    assert texts[0] == texts[1] != texts[2]
