"""Adapters of the simulated engine over real HTTP, asked by the client that the controller has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybrix.engine.adapterclient import AdapterClient
from pybrix.engine.adapters import (
    AdapterProtocol,
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AdapterUnsupported,
    AlreadyLoaded,
    CapacityFull,
    EngineTimeout,
    ServedModel,
    UnknownAdapter,
)
from pybrix.engine.prometheus import extract_samples
from pybrix.simulator.lora import LoraOptions, parse_lora_failures
from pybrix.simulator.model import ModelOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import Simulated, simulated

LORA = LoraOptions(is_enabled=True, allows_updating=True, max_loras=2, load_s=0.0)
FAST = SimulatorOptions(("m",), time_scale=0.0, lora=LORA)
SQL = AdapterSource("sql", "/loras/sql")


@asynccontextmanager
async def engine_and_client(
    lora: LoraOptions = LORA, protocol: AdapterProtocol = AdapterProtocol.VLLM, **changes: Any
) -> AsyncIterator[tuple[Simulated, AdapterClient, AdapterTarget]]:
    async with simulated(replace(FAST, lora=lora, **changes)) as engine, asyncio.timeout(60):
        yield engine, AdapterClient(engine.client), AdapterTarget(engine.url, protocol)


async def text(engine: Simulated, model: str, question: str = "hello") -> str:
    answer = await engine.chat(question, model=model)
    assert answer["model"] == model
    return str(answer["choices"][0]["message"]["content"])


async def status(engine: Simulated, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    async with engine.client.post("/v1/chat/completions", json=body) as response:
        return response.status


@pytest.mark.parametrize("protocol", [AdapterProtocol.VLLM, AdapterProtocol.SGLANG])
async def test_load_ask_unload(protocol: AdapterProtocol) -> None:
    async with engine_and_client(protocol=protocol) as (engine, client, target):
        assert await status(engine, "sql") == 404
        await client.load(target, SQL, deadline_s=5)
        base, adapter = await client.list_models(target, deadline_s=5)
        assert (base.id, base.is_adapter) == ("m", False)
        assert adapter == ServedModel(id="sql", root="/loras/sql", parent="m")
        assert await text(engine, "sql") == await text(engine, "sql") != await text(engine, "m")
        with pytest.raises(AlreadyLoaded):
            await client.load(target, SQL, deadline_s=5)
        await client.unload(target, "sql", deadline_s=5)
        assert [model.id for model in await client.list_models(target, deadline_s=5)] == ["m"]
        assert await status(engine, "sql") == 404
        with pytest.raises(UnknownAdapter):
            await client.unload(target, "sql", deadline_s=5)


async def test_other_files_under_the_same_name_answer_otherwise() -> None:
    async with engine_and_client() as (engine, client, target):
        await client.load(target, SQL, deadline_s=5)
        first = await text(engine, "sql")
        await client.unload(target, "sql", deadline_s=5)
        await client.load(target, AdapterSource("sql", "/loras/sql-v2"), deadline_s=5)
        assert await text(engine, "sql") != first


async def test_adapters_share_no_cache_with_each_other_or_with_the_base() -> None:
    async with engine_and_client() as (engine, client, target):
        question = "a long question " * 40
        for name in ("a", "b"):
            await client.load(target, AdapterSource(name, "/same/files"), deadline_s=5)

        async def cached(model: str) -> int:
            answer = await engine.chat(question, model=model)
            return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert [await cached(model) for model in ("m", "a", "b")] == [0, 0, 0]
        assert all([await cached(model) > 0 for model in ("m", "a", "b")])
        await client.unload(target, "a", deadline_s=5)
        await client.load(target, AdapterSource("a", "/same/files"), deadline_s=5)
        assert await cached("a") == 0


@pytest.mark.parametrize(
    ("lora", "protocol", "want"),
    [
        pytest.param(replace(LORA, allows_updating=False), AdapterProtocol.VLLM, AdapterUnsupported, id="vLLM forbids"),
        pytest.param(replace(LORA, is_enabled=False), AdapterProtocol.VLLM, AdapterUnsupported, id="vLLM without LoRA"),
        pytest.param(LoraOptions(), AdapterProtocol.SGLANG, AdapterUnsupported, id="SGLang without LoRA"),
        pytest.param(
            replace(LORA, failures=parse_lora_failures(["first=1"])),
            AdapterProtocol.VLLM,
            AdapterRefused,
            id="a failure",
        ),
        pytest.param(
            replace(LORA, failures=parse_lora_failures(["path=sql"])),
            AdapterProtocol.SGLANG,
            AdapterRefused,
            id="a path",
        ),
        pytest.param(replace(LORA, needs_files=True), AdapterProtocol.VLLM, AdapterRefused, id="no files there"),
    ],
)
async def test_a_load_fails(lora: LoraOptions, protocol: AdapterProtocol, want: type[AdapterRefused]) -> None:
    async with engine_and_client(lora, protocol) as (_, client, target):
        with pytest.raises(AdapterRefused) as caught:
            await client.load(target, SQL, deadline_s=5)
        assert type(caught.value) is want
        assert [model.id for model in await client.list_models(target, deadline_s=5)] == ["m"]


async def test_files_that_are_there_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    async with engine_and_client(replace(LORA, needs_files=True)) as (_, client, target):
        await client.load(target, AdapterSource("sql", str(tmp_path)), deadline_s=5)
        await client.load(target, AdapterSource("hub", "hf://org/repo"), deadline_s=5)
        assert [model.root for model in await client.list_models(target, deadline_s=5)][1:] == [
            str(tmp_path),
            "org/repo",
        ]


async def test_an_engine_that_is_full_says_so() -> None:
    async with engine_and_client(replace(LORA, max_loaded_loras=1), AdapterProtocol.SGLANG) as (_, client, target):
        await client.load(target, SQL, deadline_s=5)
        with pytest.raises(CapacityFull, match="is 1"):
            await client.load(target, AdapterSource("b", "/b"), deadline_s=5)


async def test_a_load_goes_on_when_its_caller_has_gone() -> None:
    """Like vLLM: whoever gives up has to look again what became of it."""
    async with engine_and_client(replace(LORA, load_s=0.2), time_scale=1.0) as (_, client, target):
        with pytest.raises(EngineTimeout):
            await client.load(target, SQL, deadline_s=0.05)
        # Loads of one name wait for each other, so this one ends after the first.
        with pytest.raises(AlreadyLoaded):
            await client.load(target, SQL, deadline_s=5)


async def test_failures_can_be_asked_for_while_it_runs() -> None:
    async with engine_and_client() as (engine, client, target):
        async with engine.client.post("/simulator/lora", json={"failures": ["first=1"]}) as response:
            assert response.status == 200
        with pytest.raises(AdapterRefused, match="asked for"):
            await client.load(target, SQL, deadline_s=5)
        await client.load(target, SQL, deadline_s=5)
        async with engine.client.post("/simulator/lora", json={"failures": ["hang=slow"], "load_s": 0.0}) as response:
            assert response.status == 200
        with pytest.raises(EngineTimeout):
            await client.load(target, AdapterSource("b", "/slow/b"), deadline_s=0.05)
        await client.load(target, AdapterSource("c", "/c"), deadline_s=5)
        async with engine.client.post("/simulator/lora", json={"failures": ["explode"]}) as response:
            assert response.status == 400


async def test_the_api_key_guards_both_engines_paths() -> None:
    for protocol in (AdapterProtocol.VLLM, AdapterProtocol.SGLANG):
        async with engine_and_client(protocol=protocol, api_keys=("k",)) as (_, client, target):
            with pytest.raises(AdapterRefused) as caught:
                await client.load(target, SQL, deadline_s=5)
            assert caught.value.status == 401
            await client.load(replace(target, api_key="k"), SQL, deadline_s=5)


async def test_vllm_takes_json_only() -> None:
    async with engine_and_client() as (engine, _, _):
        async with engine.client.post("/v1/load_lora_adapter", data=b'{"lora_name":"a","lora_path":"/a"}') as response:
            assert response.status == 400
        async with engine.client.post("/v1/load_lora_adapter", json={"lora_name": "a"}) as response:
            assert response.status == 400


async def test_metrics_tell_which_adapters_run_and_wait() -> None:
    slow = ModelOptions(max_num_seqs=1, decode_step_s=0.005)
    async with engine_and_client(replace(LORA, max_loras=1), model=slow, time_scale=1.0) as (engine, client, target):
        for name in ("a", "b"):
            await client.load(target, AdapterSource(name, f"/{name}"), deadline_s=5)

        async def newest() -> dict[str, str]:
            async with engine.client.get("/metrics") as response:
                samples = extract_samples(await response.read(), "vllm:lora_requests_info")
            return max(samples, key=lambda sample: sample.value).labels

        assert await newest() == {"max_lora": "1", "running_lora_adapters": "", "waiting_lora_adapters": ""}
        async with asyncio.TaskGroup() as asking:
            for name in ("a", "b"):
                asking.create_task(engine.chat("hello", model=name, max_tokens=200, ignore_eos=True))
            while await newest() != {"max_lora": "1", "running_lora_adapters": "a", "waiting_lora_adapters": "b"}:
                pass
        assert (await newest())["running_lora_adapters"] == ""


async def test_an_engine_without_adapters_has_no_such_metric() -> None:
    async with engine_and_client(LoraOptions()) as (engine, _, _), engine.client.get("/metrics") as response:
        assert b"lora" not in await response.read()


async def test_the_base_models_name_stays_the_base_model() -> None:
    async with engine_and_client() as (engine, client, target):
        want = await text(engine, "m")
        await client.load(target, AdapterSource("m", "/loras/m"), deadline_s=5)
        assert await text(engine, "m") == want
        assert [model.is_adapter for model in await client.list_models(target, deadline_s=5)] == [False, True]
