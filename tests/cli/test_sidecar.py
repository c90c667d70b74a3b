"""`pybrix sidecar run` as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from pybrix.cli.sidecar import run
from pybrix.simulator.lora import LoraOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import simulated
from tests.support.sources import ADAPTER, origin, publish_repository

LORA = LoraOptions(is_enabled=True, allows_updating=True, load_s=0.0, needs_files=True)


@asynccontextmanager
async def sidecar_process(tmp_path: Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start a sidecar on a free port; yields it and its URL once it says that it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "sidecar", "run", "--host", "127.0.0.1", "--port", "0"),
        *("--artifact-dir", str(tmp_path / "adapters"), "--model-dir", str(tmp_path / "models")),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while " on http://" not in (line := (await process.stderr.readline()).decode()):
                assert line, "the sidecar ended before it listened"
        yield process, line.split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_aibrix_variables_are_honoured_and_a_kill_in_the_middle_is_survived(tmp_path: Path) -> None:
    async with simulated(SimulatorOptions(("base",), lora=LORA)) as engine, origin() as hub:
        publish_repository(hub, "org/lora", {**ADAPTER, "big": bytes(range(256)) * 20_000})
        hub.required = "Bearer from-the-environment"
        environment = {
            "INFERENCE_ENGINE": "something-new",
            "INFERENCE_ENGINE_ENDPOINT": engine.url,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "from-the-environment",
        }
        body = {"lora_name": "a", "artifact_url": "hf://org/lora"}
        hub.gate = asyncio.Event()
        async with aiohttp.ClientSession() as client:
            async with sidecar_process(tmp_path, **environment) as (process, url):
                waiting = asyncio.ensure_future(client.post(f"{url}/v1/lora_adapter/load", json=body))
                await hub.half_sent.wait()
                process.send_signal(signal.SIGKILL)
                with pytest.raises(aiohttp.ClientError):
                    await waiting
            hub.gate.set()
            hub.gate = None
            assert not list((tmp_path / "adapters/artifacts").iterdir())
            async with sidecar_process(tmp_path, **environment) as (process, url):
                async with client.post(f"{url}/v1/lora_adapter/load", json=body) as response:
                    answer = await response.json()
                    assert response.status == 200, answer
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        files = {path.name: path.stat().st_size for path in Path(answer["local_path"]).iterdir()}
        assert files == {**{name: len(data) for name, data in ADAPTER.items()}, "big": 5_120_000}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--disk-budget", "much"],
        ["--disk-budget", "0"],
        ["--engine-url", "10.0.0.7:8000"],
        ["--allow-path-prefix", "models"],
    ],
    ids=" ".join,
)
def test_wrong_arguments(arguments: list[str]) -> None:
    result = CliRunner().invoke(run, arguments)
    assert result.exit_code != 0
    assert arguments[1] in result.output + str(result.exception)
