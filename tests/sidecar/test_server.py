"""The sidecar's endpoints, beside a simulated engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pybrix.engine.adapterclient import open_adapter_client
from pybrix.engine.adapters import (
    SIDECAR_REASONS,
    AdapterProtocol,
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    CapacityFull,
    SidecarRefused,
    check_load,
)
from pybrix.sidecar.adapters import find_adapter
from pybrix.sidecar.artifacts.errors import ArtifactError, DiskFull, NotAnAdapter
from pybrix.sidecar.options import EngineKind, MetricsMode, engine_kind
from pybrix.simulator.lora import LoraModule, LoraOptions
from pybrix.simulator.options import SimulatorOptions
from tests.support.artifacts import MIB
from tests.support.runtimesidecar import RunningSidecar, running_sidecar
from tests.support.simulated import Simulated, simulated
from tests.support.sources import ADAPTER, Origin, origin, publish_repository, tar_gz
from tests.support.waiting import until_now

LORA = LoraOptions(is_enabled=True, allows_updating=True, load_s=0.0, needs_files=True, max_loras=8)


@pytest.fixture
async def engine() -> AsyncIterator[Simulated]:
    async with simulated(SimulatorOptions(("base",), lora=LORA)) as running:
        yield running


@pytest.fixture
async def source() -> AsyncIterator[Origin]:
    async with origin() as running:
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, engine: Simulated, source: Origin) -> AsyncIterator[RunningSidecar]:
    async with running_sidecar(tmp_path / "adapters", engine.url, hub=source.url) as running:
        yield running


async def test_an_adapter_of_the_hub_is_fetched_and_loaded(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    answer = await sidecar.load("my.lora", "huggingface://org/lora")
    assert answer.status == 200, answer
    assert answer.body["status"] == "success"
    path = answer.body["local_path"]
    assert await sidecar.adapters() == {"my.lora": path}
    assert {p.name: p.read_bytes() for p in Path(path).iterdir()} == ADAPTER


async def test_an_archive_with_a_directory_in_it(sidecar: RunningSidecar, source: Origin) -> None:
    url = source.put("/lora.tar.gz", tar_gz({f"lora-v1/{name}": data for name, data in ADAPTER.items()}))
    answer = await sidecar.load("a", url)
    assert answer.body["local_path"].endswith("/files/lora-v1")
    assert await sidecar.adapters() == {"a": answer.body["local_path"]}


async def test_an_archive_with_several_adapters(sidecar: RunningSidecar, source: Origin) -> None:
    data = tar_gz({f"{where}/{name}": data for where in ("one", "x/two") for name, data in ADAPTER.items()})
    url = source.put("/loras.tar.gz", data)
    unnamed = await sidecar.load("a", url)
    assert (unnamed.status, unnamed.body["type"]) == (400, "NotAnAdapter")
    assert "#dir=NAME" in unnamed.body["message"]
    checksum = hashlib.sha256(data).hexdigest()
    for fragment, where in (("dir=one", "one"), ("dir=x%2Ftwo", "x/two"), (f"sha256={checksum}&dir=x/two/", "x/two")):
        answer = await sidecar.load("a", f"{url}#{fragment}")
        assert answer.body["local_path"].endswith(f"/files/{where}"), answer
        assert await sidecar.adapters() == {"a": answer.body["local_path"]}
    # Once without a promise, once with one.
    assert len(source.bodies("/loras.tar.gz")) == 2
    wrong = await sidecar.load("a", f"{url}#dir=three")
    assert (wrong.status, wrong.body["type"]) == (400, "NotAnAdapter")
    assert "one, x/two" in wrong.body["message"]
    for odd in ("dir=", "dir=../one", "dir=/one", "dir=one&dir=x/two", "dir=%2e%2e", "dir=one&x"):
        answer = await sidecar.load("a", f"{url}#{odd}")
        assert (answer.status, answer.body["type"]) == (400, "SourceInvalid"), odd
    answer = await sidecar.post("/v1/model/download", {"model_uri": f"{url}#dir=one"})
    assert answer.status == 400


async def test_a_directory_that_is_there(sidecar: RunningSidecar, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    for name, data in ADAPTER.items():
        (tmp_path / "lora" / name).write_bytes(data)
    for number, url in enumerate((str(tmp_path / "lora"), f"file://{tmp_path}/lora")):
        answer = await sidecar.load(f"a{number}", url)
        assert answer.body["local_path"] == str(tmp_path / "lora")
    assert len(await sidecar.adapters()) == 2
    assert (await sidecar.load("b", "/etc/passwd")).status == 403


async def test_loading_again_is_no_load(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    first, second = await sidecar.load("a", "hf://org/lora"), await sidecar.load("a", "hf://org/lora")
    assert first.status == second.status == 200
    assert "already" in second.body["message"]


async def test_another_artifact_under_the_same_name_replaces_it(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/one", ADAPTER)
    publish_repository(source, "org/two", {**ADAPTER, "adapter_model.safetensors": b"other"})
    await sidecar.load("a", "hf://org/one")
    answer = await sidecar.load("a", "hf://org/two")
    assert answer.status == 200, answer
    assert await sidecar.adapters() == {"a": answer.body["local_path"]}
    assert (Path(answer.body["local_path"]) / "adapter_model.safetensors").read_bytes() == b"other"


async def test_a_new_version_of_the_same_url_replaces_it(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    first = await sidecar.load("a", "hf://org/lora")
    publish_repository(source, "org/lora", {**ADAPTER, "README.md": b"new"}, commit="c0ffee2")
    second = await sidecar.load("a", "hf://org/lora")
    assert await sidecar.adapters() == {"a": second.body["local_path"]}
    assert first.body["local_path"] != second.body["local_path"]


async def test_two_names_for_one_artifact(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    answers = await asyncio.gather(*(sidecar.load(name, "hf://org/lora") for name in ("a", "b")))
    assert [answer.status for answer in answers] == [200, 200]
    assert len(source.bodies("/org/lora/resolve/c0ffee1/adapter_config.json")) == 1
    await sidecar.unload("a")
    assert len(sidecar.artifacts()) == 1
    await sidecar.unload("b")
    assert not sidecar.artifacts()
    assert await sidecar.adapters() == {}


async def test_unload(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    await sidecar.load("a", "hf://org/lora")
    answer = await sidecar.unload("a", cleanup_local=False)
    assert (answer.status, answer.body["status"]) == (200, "success")
    assert await sidecar.adapters() == {}
    assert len(sidecar.artifacts()) == 1
    again = await sidecar.unload("a", lora_int_id=3)
    assert (again.status, again.body["message"]) == (200, "LoRA adapter 'a' was not loaded")


async def test_an_unload_supersedes_a_load_that_waits_for_its_download(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    source.gate = asyncio.Event()
    waiting = asyncio.ensure_future(sidecar.load("a", "hf://org/lora"))
    await source.half_sent.wait()
    assert (await sidecar.unload("a")).status == 200
    # It does not wait for the download.
    answer = await asyncio.wait_for(waiting, 60)
    assert (answer.status, answer.body["type"]) == (409, "Superseded")
    (flight,) = sidecar.sidecar.store.flights()
    assert flight.waiting == 0
    source.gate.set()
    assert await sidecar.adapters() == {}


async def test_a_client_that_left_does_not_wait(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    source.gate = asyncio.Event()
    waiting = asyncio.ensure_future(sidecar.load("a", "hf://org/lora"))
    await source.half_sent.wait()
    (flight,) = sidecar.sidecar.store.flights()
    assert flight.waiting == 1
    waiting.cancel()
    await until_now(lambda: flight.waiting == 0)
    assert flight.timer is not None


async def test_a_later_load_supersedes_an_earlier_one(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/slow", ADAPTER)
    publish_repository(source, "org/fast", ADAPTER, commit="fa57")
    await sidecar.load("warm", "hf://org/fast")
    source.gate = asyncio.Event()
    slow = asyncio.ensure_future(sidecar.load("a", "hf://org/slow"))
    await source.half_sent.wait()
    fast = await sidecar.load("a", "hf://org/fast")
    source.gate.set()
    assert (await slow).status == 409
    assert (await sidecar.adapters())["a"] == fast.body["local_path"]


async def test_the_direct_form(sidecar: RunningSidecar, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text("{}")
    body = {"lora_name": "a", "lora_path": str(tmp_path / "lora")}
    async with sidecar.client.post("/v1/lora_adapter/load", json=body) as response:
        assert (response.status, await response.text()) == (200, "Success: LoRA adapter 'a' added successfully.")
    assert (await sidecar.post("/v1/lora_adapter/load", {**body, "lora_path": "/etc/x"})).status == 403
    again = await sidecar.post("/v1/lora_adapter/load", body)
    assert again.status == 400
    assert "already" in again.body["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"lora_name": "a", "artifact_url": "hf://o/r", "unknown": 1}, 422),
        ({"lora_name": "a", "lora_path": "/x", "credentials": {}}, 422),
        ({"lora_name": "a"}, 422),
        ({"artifact_url": "hf://o/r"}, 422),
        ({"lora_name": "../a", "artifact_url": "hf://o/r"}, 422),
        ({"lora_name": "a", "artifact_url": "ftp://o/r"}, 400),
        ({"lora_name": "a", "artifact_url": "hf://o/r", "credentials_secret": "../../x"}, 422),
        ({"lora_name": "a", "artifact_url": "hf://o/r", "credentials_secret": "none"}, 400),
        ({"lora_name": "base", "artifact_url": "/tmp/x"}, 409),
        ([], 400),
    ],
    ids=str,
)
async def test_wrong_requests(sidecar: RunningSidecar, body: object, status: int) -> None:
    answer = await sidecar.post("/v1/lora_adapter/load", body)
    assert answer.status == status, answer
    assert answer.body["object"] == "error"
    assert answer.body["error"] == answer.body["message"]
    assert answer.body["code"] == status


async def test_errors_never_repeat_credentials(
    sidecar: RunningSidecar, source: Origin, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    source.required = "Bearer other"
    answer = await sidecar.load("a", "hf://org/lora", credentials={"huggingface_token": "top-secret"})
    assert answer.status == 401
    odd = await sidecar.load("a", "hf://org/lora", credentials={"huggingface_token": "top-secret\n\x00x"})
    raw = await sidecar.client.post("/v1/lora_adapter/load", data=b'{"credentials": "top-secret"')
    wrong = await sidecar.load("a", "hf://org/lora", credentials=["top-secret"])
    said = json.dumps([answer.body, odd.body, wrong.body]) + await raw.text() + capsys.readouterr().out
    assert "top-secret" not in said


async def test_credentials_of_a_mounted_secret(sidecar: RunningSidecar, source: Origin, tmp_path: Path) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    source.required = "Bearer mounted"
    (tmp_path / "secrets/hub").mkdir(parents=True)
    (tmp_path / "secrets/hub/huggingface_token").write_text("mounted\n")
    assert (await sidecar.load("a", "hf://org/lora")).status == 401
    assert (await sidecar.load("a", "hf://org/lora", credentials_secret="hub")).status == 200


async def test_what_is_no_adapter_is_not_loaded(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/model", {"config.json": b"{}"})
    answer = await sidecar.load("a", "hf://org/model")
    assert (answer.status, answer.body["type"]) == (400, "NotAnAdapter")
    assert "config.json" in answer.body["error"]


async def test_an_engine_that_wants_a_key(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    async with (
        simulated(SimulatorOptions(("base",), lora=LORA, api_keys=("k",))) as engine,
        running_sidecar(tmp_path / "adapters", engine.url, hub=source.url) as sidecar,
    ):
        assert (await sidecar.load("a", "hf://org/lora")).status == 401
        # Nothing is fetched for whom the engine turns away.
        assert not source.asked
        assert (await sidecar.load("a", "hf://org/lora", additional_config={"api-key": "k"})).status == 200
        assert (await sidecar.unload("a")).status == 401
        headers = {"Authorization": "Bearer k"}
        answer = await sidecar.post("/v1/lora_adapter/unload", {"lora_name": "a"}, **headers)
        assert answer.status == 200
        async with sidecar.client.get("/v1/models") as response:
            # The key that the sidecar has seen is not lent to others.
            assert response.status == 401
        async with sidecar.client.get("/v1/models", headers={"Authorization": "Bearer x"}) as response:
            assert response.status == 401
        async with sidecar.client.get("/v1/models", headers=headers) as response:
            assert response.status == 200


async def test_the_clients_of_the_controllers_understand_it(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    target = AdapterTarget(str(sidecar.client._base_url), AdapterProtocol.SIDECAR)
    async with open_adapter_client() as client:
        await client.load(target, AdapterSource("a", "hf://org/lora", {"huggingface_token": "t"}), deadline_s=10)
        assert "a" in {model.id for model in await client.list_models(target, deadline_s=5)}
        await client.unload(target, "a", deadline_s=5)
        assert "a" not in {model.id for model in await client.list_models(target, deadline_s=5)}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/x.bin#sha256=" + "0" * 64, "ChecksumMismatch"),
        ("/x.bin", "NotAnAdapter"),
        ("/nothing", "SourceMissing"),
        ("/broken", "SourceUnavailable"),
        ("/x.bin#nonsense", "SourceInvalid"),
        ("/hostile.tar.gz", "ListingHostile"),
    ],
)
async def test_the_clients_of_the_controllers_learn_why(
    sidecar: RunningSidecar, source: Origin, path: str, reason: str
) -> None:
    source.put("/x.bin", b"data" * 100)
    source.put("/hostile.tar.gz", tar_gz({"../../x": b"x"}))
    source.broken.add("/broken")
    target = AdapterTarget(str(sidecar.client._base_url), AdapterProtocol.SIDECAR)
    async with open_adapter_client() as client:
        with pytest.raises(SidecarRefused) as caught:
            await client.load(target, AdapterSource("a", source.url + path), deadline_s=10)
    assert caught.value.reason == reason
    assert caught.value.message


def test_reasons_are_a_closed_list() -> None:
    # DiskFull is the controllers' CapacityFull.
    assert {kind.reason for kind in ArtifactError.__subclasses__() if kind is not DiskFull} <= SIDECAR_REASONS
    for answer, kind in [
        (b'{"error": "x", "type": "Whatever"}', AdapterRefused),
        (b'{"error": "x", "type": 3}', AdapterRefused),
        (b'{"error": {"message": "x", "type": "SourceMissing"}}', AdapterRefused),
        (b'{"error": "no room", "type": "DiskFull"}', CapacityFull),
    ]:
        with pytest.raises(AdapterRefused) as caught:
            check_load(507 if kind is CapacityFull else 400, answer)
        assert type(caught.value) is kind
        assert caught.value.reason == kind.reason


def test_the_guide_explains_every_reason() -> None:
    guide = (Path(__file__).parents[2] / "docs/guides/lora.md").read_text()
    assert [reason for reason in sorted(SIDECAR_REASONS) if f"`{reason}`" not in guide] == []


async def test_ready_is_when_the_engine_is(tmp_path: Path, engine: Simulated, unused_tcp_port: int) -> None:
    for url, want in ((engine.url, 200), (f"http://127.0.0.1:{unused_tcp_port}", 503)):
        async with running_sidecar(tmp_path / "adapters", url) as sidecar:
            async with sidecar.client.get("/ready") as response:
                assert response.status == want, await response.text()
            async with sidecar.client.get("/healthz") as response:
                assert await response.json() == {"status": "ok"}


async def test_metrics_are_one_valid_page(sidecar: RunningSidecar, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    await sidecar.load("a", "hf://org/lora")
    async with sidecar.client.get("/metrics") as response:
        page = await response.text()
    names = [family.name for family in text_string_to_metric_families(page)]
    assert len(names) == len(set(names))
    assert {"aibrix:queue_size", "aibrix:prompt_tokens", "vllm:prompt_tokens", "aibrix:info"} <= set(names)
    assert 'pybrix_sidecar_downloads_total{result="complete",scheme="huggingface"} 1.0' in page
    assert "pybrix_sidecar_adapters_loaded 1.0" in page
    assert 'aibrix:api_request_total{endpoint="/v1/lora_adapter/load",method="POST",status="200"} 1.0' in page


async def test_metrics_without_an_engine(tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with (
        running_sidecar(tmp_path, url, metrics_mode=MetricsMode.RAW) as sidecar,
        sidecar.client.get("/metrics") as response,
    ):
        assert response.status == 200
        assert "pybrix_sidecar_engine_up 0.0" in await response.text()


async def test_model_claims_are_not_served(sidecar: RunningSidecar) -> None:
    for path in ("models/activate", "models", "snapshot"):
        answer = await sidecar.post(f"/v1/runtime/{path}", {})
        assert (answer.status, answer.body["type"]) == (501, "NotImplemented")
    assert (await sidecar.post("/nowhere", {})).status == 404


@pytest.mark.parametrize("kind", [EngineKind.LLAMACPP, EngineKind.TRTLLM])
async def test_engines_that_cannot_say_so(tmp_path: Path, engine: Simulated, kind: EngineKind) -> None:
    async with running_sidecar(tmp_path / "adapters", engine.url, engine=kind) as sidecar:
        (tmp_path / "lora").mkdir()
        answer = await sidecar.load("a", str(tmp_path / "lora"))
        assert (answer.status, answer.body["type"]) == (501, "AdapterUnsupported")


async def test_sglang(tmp_path: Path, engine: Simulated, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    async with running_sidecar(tmp_path / "adapters", engine.url, hub=source.url, engine=EngineKind.SGLANG) as sidecar:
        assert (await sidecar.load("a", "hf://org/lora")).status == 200
        assert "a" in await sidecar.adapters()
        assert (await sidecar.unload("a")).status == 200
        assert "a" not in await sidecar.adapters()


async def test_a_restarted_sidecar_knows_what_is_loaded_and_evicts_none_of_it(
    tmp_path: Path, engine: Simulated, source: Origin
) -> None:
    for name in ("one", "two", "three"):
        publish_repository(source, f"org/{name}", {**ADAPTER, "big": name.encode() * MIB}, commit=f"c0de{len(name)}")
    settings: dict[str, Any] = {"hub": source.url, "disk_budget_bytes": 9 * MIB}
    async with running_sidecar(tmp_path / "adapters", engine.url, **settings) as sidecar:
        kept = (await sidecar.load("a", "hf://org/one")).body["local_path"]
        await sidecar.load("b", "hf://org/two")
        await sidecar.unload("b", cleanup_local=False)
    async with running_sidecar(tmp_path / "adapters", engine.url, **settings) as sidecar:
        answer = await sidecar.load("c", "hf://org/three")
        assert answer.status == 200, answer
        assert Path(kept).exists()
        assert len(sidecar.artifacts()) == 2
        full = await sidecar.load("d", "hf://org/two")
        assert (full.status, full.body["type"]) == (507, "DiskFull")
        assert set(await sidecar.adapters()) == {"a", "c"}


async def test_what_an_engine_lost_when_it_restarted_may_be_evicted(tmp_path: Path, source: Origin) -> None:
    for name in ("one", "three"):
        publish_repository(source, f"org/{name}", {**ADAPTER, "big": name.encode() * MIB}, commit=f"c0de{len(name)}")
    settings: dict[str, Any] = {"hub": source.url, "disk_budget_bytes": 6 * MIB}
    async with (
        simulated(SimulatorOptions(("base",), lora=LORA)) as before,
        running_sidecar(tmp_path / "adapters", before.url, **settings) as sidecar,
    ):
        await sidecar.load("a", "hf://org/one")
        assert (await sidecar.load("c", "hf://org/three")).status == 507
    async with (
        simulated(SimulatorOptions(("base",), lora=LORA)) as after,
        running_sidecar(tmp_path / "adapters", after.url, **settings) as sidecar,
    ):
        assert (await sidecar.load("c", "hf://org/three")).status == 200


async def test_an_adapter_that_the_engine_had_from_its_start_is_replaced(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    lora = LoraOptions(is_enabled=True, allows_updating=True, load_s=0.0, modules=(LoraModule("a", "/elsewhere"),))
    async with (
        simulated(SimulatorOptions(("base",), lora=lora)) as engine,
        running_sidecar(tmp_path / "adapters", engine.url, hub=source.url) as sidecar,
    ):
        answer = await sidecar.load("a", "hf://org/lora")
        assert await sidecar.adapters() == {"a": answer.body["local_path"]}


@pytest.mark.parametrize(
    ("paths", "want"),
    [
        (["adapter_config.json", "checkpoint-1/adapter_config.json"], ""),
        (["lora/adapter_config.json", "lora/x"], "lora"),
        (["x/y/adapter_config.json"], "x/y"),
    ],
)
def test_where_the_adapter_is(paths: list[str], want: str) -> None:
    assert find_adapter(paths) == want


def test_several_adapters_are_named() -> None:
    with pytest.raises(NotAnAdapter, match="a, b"):
        find_adapter(["a/adapter_config.json", "b/adapter_config.json"])


def test_words_for_engines() -> None:
    assert engine_kind(" vLLM") is EngineKind.VLLM
    assert engine_kind("TensorRT-LLM") is EngineKind.TRTLLM
    assert engine_kind("tgi") is None
