"""LoRA adapters as docs/guides/lora.md has them: applied, asked for by name through the gateway, deleted.

Rollouts and crashes of controllers are in test_adapter_rollouts.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from tests.support.installation import PYBRIX, Installation, eventually, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "lora")
ADAPTERS = ("tiny-poet", "tiny-sql")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    # With roles enforced, which whoever has the kubeconfig does not notice.
    started = it.up("--authorization", "rbac")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.fixture(scope="module")
def example(installation: Installation) -> Installation:
    """The example of the guide, applied and ready."""
    asyncio.run(apply_example(installation))
    return installation


async def apply_example(it: Installation) -> None:
    await it.kubectl("apply", "-f", EXAMPLE)
    await it.kubectl("wait", "--for=condition=Ready", "modeladapter", "--all", "--timeout=60s")
    await it.kubectl("rollout", "status", "deployment/tiny-base", "--timeout=60s")
    await settled(it, {"tiny-poet": 2, "tiny-sql": 3})


async def settled(it: Installation, want: dict[str, int]) -> None:
    """Wait until so many endpoints of each adapter are ready, and the status says the same."""

    async def as_wanted() -> bool:
        listed = {name: len(await endpoints(it, name)) for name in want}
        statuses = (await it.get_json("modeladapters"))["items"]
        said = {a["metadata"]["name"]: a.get("status", {}).get("readyReplicas", 0) for a in statuses}
        return listed == want == {name: said.get(name) for name in want}

    await eventually(as_wanted, f"endpoints {want}", timeout_s=60)


async def endpoints(it: Installation, adapter: str) -> set[str]:
    """Return the names of the pods that an adapter's slices list as ready."""
    slices = await it.get_json("endpointslices", "-l", f"adapter.model.aibrix.ai/name={adapter}")
    found = [each for s in slices["items"] for each in s.get("endpoints") or []]
    return {each["targetRef"]["name"] for each in found if each["conditions"]["ready"]}


async def answer(it: Installation, model: str) -> tuple[str, str]:
    """Ask; return the text and the pod that gave it."""
    status, body, headers = await it.ask(model)
    assert status == 200, body
    assert body["model"] == model
    return str(body["choices"][0]["message"]["content"]), headers["target-pod"]


async def models(url: str) -> dict[str, str | None]:
    """Return what `/v1/models` lists: names and parents."""
    async with aiohttp.ClientSession() as session, session.get(url + "/v1/models") as response:
        assert response.status == 200
        return {card["id"]: card.get("parent") for card in (await response.json())["data"]}


async def pybrix_adapters(it: Installation, *arguments: str) -> Any:
    finished = await run(*PYBRIX, "adapters", "--data-dir", str(it.data_dir), "-o", "json", *arguments)
    return json.loads(finished.checked())


async def test_requests_name_an_adapter_and_reach_pods_that_have_it(example: Installation) -> None:
    texts = {}
    for name in ("tiny-base", *ADAPTERS):
        answers = [await answer(example, name) for _ in range(6)]
        texts[name] = {text for text, _ in answers}
        if name in ADAPTERS:
            assert {pod for _, pod in answers} <= await endpoints(example, name)
    # Every pod says the same for an adapter, and each adapter something else.
    assert all(len(found) == 1 for found in texts.values()), texts
    assert len(set.union(*texts.values())) == 3, texts


async def test_the_gateway_lists_adapters_beside_their_base(example: Installation) -> None:
    assert await models(example.gateway_url) == {"tiny-base": None, "tiny-poet": "tiny-base", "tiny-sql": "tiny-base"}


async def test_the_command_shows_them(example: Installation) -> None:
    listed = await pybrix_adapters(example)
    assert [(a["metadata"]["name"], a["status"]["phase"], len(a["status"]["instances"])) for a in listed["items"]] == [
        ("tiny-poet", "Running", 2),
        ("tiny-sql", "Running", 3),
    ]


async def test_a_new_adapter_is_routable_within_a_second_of_ready(example: Installation) -> None:
    manifest = (await pybrix_adapters(example, "tiny-sql")) | {"status": {}}
    manifest["metadata"] = {"name": "tiny-new", "namespace": "default"}
    path = example.data_dir / "tiny-new.json"
    path.write_text(json.dumps(manifest))
    await example.kubectl("apply", "-f", str(path))
    await example.kubectl("wait", "--for=condition=Ready", "modeladapter/tiny-new", "--timeout=60s")
    ready_s = monotonic()

    async def answers() -> bool:
        return (await example.ask("tiny-new"))[0] == 200

    await eventually(answers, "an answer", timeout_s=1, interval_s=0.02)
    assert monotonic() - ready_s < 1.0
    await example.kubectl("delete", "modeladapter", "tiny-new", "--timeout=60s")


async def test_another_artifact_takes_effect_without_a_failed_request(example: Installation) -> None:
    before, _ = await answer(example, "tiny-sql")
    patch = '{"spec":{"artifactURL":"huggingface://example/tiny-sql-v2"}}'
    await example.kubectl("patch", "modeladapter", "tiny-sql", "--type=merge", "-p", patch)
    since_s = monotonic()
    pods: set[str] = set()
    # Each answer is the old one or the new one, until every pod gives the new one.
    while pods != await endpoints(example, "tiny-sql") or len(pods) < 3:
        text, pod = await answer(example, "tiny-sql")
        if text == before:
            pods.discard(pod)
        else:
            pods.add(pod)
        assert monotonic() - since_s < 60, f"only {pods} have the new one"


async def test_a_deleted_adapter_is_refused_and_in_no_engine(example: Installation) -> None:
    await example.kubectl("delete", "modeladapter", "tiny-poet", "--timeout=60s")

    async def is_refused() -> bool:
        # 503 while it is being unloaded.
        status, body, _ = await example.ask("tiny-poet")
        assert status in (200, 404, 503), body
        return status == 404

    await eventually(is_refused, "the gateway refuses a deleted adapter")
    pods = (await example.get_json("pods", "-l", "model.aibrix.ai/name=tiny-base"))["items"]
    for pod in pods:
        assert "tiny-poet" not in await models(f"http://{pod['status']['podIP']}:8000")

    async def has_no_service() -> bool:
        return not (await example.get_json("services", "-l", "adapter.model.aibrix.ai/name=tiny-poet"))["items"]

    await eventually(has_no_service, "its Service is collected")
