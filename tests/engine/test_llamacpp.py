"""The real engine with a real model, where both are installed."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from pybrix.engine.metrics import METRIC_NAMES, Engine
from pybrix.engine.modelfiles import PACKAGED_MODELS, cached_path, default_cache_dir, is_cached
from pybrix.engine.prometheus import extract_sums

MODEL = PACKAGED_MODELS["smollm2"]

needs_llm = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or not is_cached(MODEL, default_cache_dir()),
    reason="needs the extra `llm` and `pybrix models pull smollm2`",
)


@needs_llm
@pytest.mark.e2e
async def test_the_real_model_answers_on_the_address_it_was_given(unused_tcp_port: int) -> None:
    url = f"http://127.64.200.1:{unused_tcp_port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "llamacpp", "--model", str(cached_path(MODEL, default_cache_dir()))),
        *("--served-model-name", "tiny", "--host", "127.64.200.1", "--port", str(unused_tcp_port)),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while url.encode() not in (line := await process.stderr.readline()):
                assert line, "it ended before it listened"
        async with aiohttp.ClientSession(base_url=url) as client:
            async with client.get("/v1/models") as response:
                assert [card["id"] for card in (await response.json())["data"]] == ["tiny"]
            async with client.get("/health") as response:
                assert response.status == 200
            answers = []
            for question in ("What is the capital of France?", "Name a fruit."):
                body = {
                    "model": "tiny",
                    "messages": [{"role": "user", "content": question}],
                    "max_tokens": 12,
                    "temperature": 0,
                }
                async with client.post("/v1/chat/completions", json=body) as response:
                    answers.append(await response.json())
            texts = [answer["choices"][0]["message"]["content"] for answer in answers]
            assert all(texts)
            assert texts[0] != texts[1]
            # The system prompt of the model's template is common to both.
            assert answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
            async with client.get("/metrics") as response:
                names = METRIC_NAMES[Engine.LLAMACPP]
                wanted = (names.running, names.waiting, names.generation_tokens)
                found = extract_sums(await response.read(), wanted)
            assert set(found) == set(wanted)
            assert (found[names.running], found[names.waiting]) == (0, 0)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs the extra `llm`")
async def test_a_file_that_is_no_model_is_refused(tmp_path: Path, unused_tcp_port: int) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"nothing")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pybrix", "llamacpp", "--model", str(bad)),
        *("--host", "127.0.0.1", "--port", str(unused_tcp_port)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert f"pybrix: llama.cpp does not start with {bad}" in said.decode()
