"""Adapters while their pods roll and their controller is killed: no request fails, slices are right at every moment.

The witness follows pods and slices by watches of its own and judges them afterwards, one revision of the API after the
other: what it sees is what anybody could have seen.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pybrix.api.core import EndpointSlice, Pod
from pybrix.api.meta import Object
from pybrix.bench.report import Tally
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.interface import EventType
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.installation import Installation, eventually
from tests.support.traffic import steady_traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "lora"
BASE = "tiny-base"
DEPLOYMENT = f"deployment/{BASE}"
NUM_PODS = 5
RATE_PER_S = 51.0
"""To all adapters together."""
REPLICAS = {"everywhere": None, "twice": 2, "once": 1}
LABEL = "adapter.model.aibrix.ai/name"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up()
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        asyncio.run(apply(it))
        yield it
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def adapter(name: str, artifact: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "baseModel": BASE,
            "podSelector": {"matchLabels": {"model.aibrix.ai/name": BASE}},
            "artifactURL": f"huggingface://example/{name}-{artifact}",
            **{key: value for key, value in spec.items() if value is not None},
        },
    }


async def put(it: Installation, *manifests: dict[str, Any]) -> None:
    path = it.data_dir / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    await it.kubectl("apply", "-f", str(path))


async def apply(it: Installation) -> None:
    base = yaml.safe_load((EXAMPLE / "base.yaml").read_text())
    base["spec"]["replicas"] = NUM_PODS
    # Longer than a pod takes to drain: the old ones have to stay for as long as they are needed.
    base["spec"]["template"]["spec"]["containers"][0]["args"] += ["--lora-load-s", "2.5"]
    await put(it, base, *(adapter(name, replicas=replicas) for name, replicas in REPLICAS.items()))
    await it.kubectl("rollout", "status", DEPLOYMENT, "--timeout=90s")
    await eventually(lambda: is_settled(it, REPLICAS), "all adapters are where they shall be", timeout_s=60)


async def is_settled(it: Installation, replicas: dict[str, int | None], artifact: str = "v1") -> bool:
    """Say whether engines have exactly what is wanted, and the slices list exactly those."""
    pods = (await it.get_json("pods", "-l", f"model.aibrix.ai/name={BASE}"))["items"]
    if len(pods) != NUM_PODS or any("deletionTimestamp" in p["metadata"] for p in pods):
        return False
    if not all(Pod.from_dict(each).is_ready for each in pods):
        # Its engine may not listen yet.
        return False
    found: dict[str, set[str]] = {}
    async with aiohttp.ClientSession() as session:
        for pod in pods:
            async with session.get(f"http://{pod['status']['podIP']}:8000/v1/models") as response:
                for card in (await response.json())["data"]:
                    if card.get("parent"):
                        found.setdefault(card["id"], set()).add(pod["metadata"]["name"])
                        if not str(card["root"]).endswith(artifact):
                            return False
    if {name: len(where) for name, where in found.items()} != {n: r or NUM_PODS for n, r in replicas.items()}:
        return False
    slices = (await it.get_json("endpointslices", "-l", LABEL))["items"]
    listed: dict[str, set[str]] = {}
    for piece in slices:
        for endpoint in piece.get("endpoints") or []:
            if endpoint["conditions"]["ready"]:
                listed.setdefault(piece["metadata"]["labels"][LABEL], set()).add(endpoint["targetRef"]["name"])
    return listed == found


class Witness:
    """Every revision of pods and adapters' slices."""

    def __init__(self, it: Installation) -> None:
        self._it = it
        self._seen: list[tuple[int, EventType, Object]] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Witness]:
        async with (
            HttpClient(load_kubeconfig(self._it.data_dir / "kubeconfig")) as client,
            asyncio.TaskGroup() as group,
        ):
            tasks = [
                group.create_task(self._watch(client, Pod, "")),
                group.create_task(self._watch(client, EndpointSlice, LABEL)),
            ]
            yield self
            # What was written before this moment arrives before the watches are left.
            await asyncio.sleep(1)
            for task in tasks:
                task.cancel()

    async def _watch(self, client: HttpClient, cls: type[Object], selector: str) -> None:
        listed = await client.list(cls, label_selector=selector)
        for obj in listed.items:
            self._seen.append((int(obj.metadata.resource_version), EventType.ADDED, obj))
        version = listed.resource_version
        while True:
            try:
                stream = client.watch(cls, resource_version=version, label_selector=selector)
                async for event in stream:
                    version = event.object.metadata.resource_version
                    if event.type is not EventType.BOOKMARK:
                        self._seen.append((int(version), event.type, event.object))
            except KubeError:
                await asyncio.sleep(0.1)

    def wrong(self) -> list[str]:
        """Return when a slice listed a pod that was gone, or an adapter that had served had no endpoint."""
        found: list[str] = []
        gone: set[str] = set()
        slices: dict[str, EndpointSlice] = {}
        serving: set[str] = set()
        for revision, event, obj in sorted(self._seen, key=lambda seen: seen[0]):
            if isinstance(obj, EndpointSlice):
                slices[obj.uid] = obj
            if event is EventType.DELETED:
                slices.pop(obj.uid, None)
                gone.add(obj.uid)
            listed: Counter[str] = Counter()
            for piece in slices.values():
                for endpoint in piece.endpoints:
                    assert endpoint.target_ref is not None
                    listed[piece.metadata.labels[LABEL]] += 1
                    if endpoint.target_ref.uid in gone:
                        found.append(
                            f"{revision}: {piece.metadata.name} lists {endpoint.target_ref.name}, which is gone"
                        )
            serving |= set(listed)
            found += [f"{revision}: {name} has no endpoint" for name in sorted(serving) if not listed[name]]
        return found


@asynccontextmanager
async def traffic(it: Installation, names: list[str]) -> AsyncIterator[list[Tally]]:
    async with AsyncExitStack() as stack:
        rate = RATE_PER_S / len(names)
        yield [
            await stack.enter_async_context(
                steady_traffic(it.gateway_url, name, rate_per_s=rate, is_text_known=False).running()
            )
            for name in names
        ]


async def flows(tallies: list[Tally], more: int) -> None:
    """Wait until so many more answers of each adapter have come."""
    goals = [tally.succeeded + more for tally in tallies]

    async def enough() -> bool:
        return all(tally.succeeded >= goal for tally, goal in zip(tallies, goals, strict=True))

    await eventually(enough, f"{more} more answers", timeout_s=60)


@pytest.mark.parametrize("has_gate", [True, False], ids=["with readiness gate", "without readiness gate"])
async def test_a_rolling_upgrade_under_load_fails_nothing_and_slices_are_right_throughout(
    installation: Installation, has_gate: bool
) -> None:
    before = await uids(installation)
    witness = Witness(installation)
    async with witness.watching(), traffic(installation, list(REPLICAS)) as tallies:
        await flows(tallies, 30)
        gates = [{"conditionType": "adapter.model.aibrix.ai/loaded"}] if has_gate else []
        template = {"metadata": {"labels": {"release": f"gate-{has_gate}".lower()}}, "spec": {"readinessGates": gates}}
        patch = json.dumps({"spec": {"template": template}})
        await installation.kubectl("patch", DEPLOYMENT, "--type=merge", "-p", patch)
        await flows(tallies, 30)
        await installation.kubectl("rollout", "status", DEPLOYMENT, "--timeout=180s", timeout_s=200)
        await eventually(lambda: is_settled(installation, REPLICAS), "adapters are in the new pods", timeout_s=90)
        await flows(tallies, 45)
    assert [tally.failed for tally in tallies] == [[], [], []]
    assert [tally.cut_streams for tally in tallies] == [[], [], []]
    assert sum(tally.succeeded for tally in tallies) > 300
    assert witness.wrong() == []
    assert not before & await uids(installation), "every pod was replaced"


async def test_five_kills_of_the_controllers_change_nothing_in_the_end(installation: Installation) -> None:
    names = list(REPLICAS)
    await put(installation, adapter("doomed"))
    await installation.kubectl("wait", "--for=condition=Ready", "modeladapter/doomed", "--timeout=60s")
    witness = Witness(installation)
    async with witness.watching(), traffic(installation, names) as tallies:
        await flows(tallies, 10)
        for number in range(5):
            match number:
                case 0 | 2:
                    # At the same moment: whatever it is at, it ends.
                    await put(installation, *(adapter(n, f"v{number + 2}", replicas=r) for n, r in REPLICAS.items()))
                case 1:
                    await installation.kubectl("delete", "modeladapter", "doomed", "--wait=false")
                case 3:
                    # Not the only pod of an adapter, nor the one that it is on its way to: while nobody controls,
                    # nobody makes another copy.
                    records = (await installation.get_json("modeladapter", "once"))["status"]["pods"]
                    only = {record["name"] for record in records}
                    pods = (await installation.get_json("pods", "-l", f"model.aibrix.ai/name={BASE}"))["items"]
                    victim = next(p["metadata"]["name"] for p in pods if p["metadata"]["name"] not in only)
                    await installation.kubectl("delete", "pod", victim, "--wait=false")
                case _:
                    await put(installation, adapter("late", "v4"))
            await asyncio.sleep(0.4 * number)  # another point of what it does each time
            await kill_controllers(installation)
        want = {**REPLICAS, "late": None}
        await eventually(
            lambda: is_settled(installation, want, artifact="v4"), "everything is as it was asked for", timeout_s=120
        )
        await eventually(lambda: are_running(installation, want), "the adapters say so, and no other is left")
        await flows(tallies, 10)
    assert [tally.failed for tally in tallies] == [[], [], []]
    assert [wrong for wrong in witness.wrong() if "no endpoint" in wrong and "doomed" not in wrong] == []


async def are_running(it: Installation, names: Iterable[str]) -> bool:
    """Say whether exactly these adapters are there and run: their status is written after the engines have them."""
    found = (await it.get_json("modeladapters"))["items"]
    phases = {each["metadata"]["name"]: each.get("status", {}).get("phase") for each in found}
    return phases == dict.fromkeys(names, "Running")


async def kill_controllers(it: Installation) -> None:
    before = it.pid("controllers")
    it.process("controllers").kill()

    async def is_back() -> bool:
        return it.pid("controllers") != before

    await eventually(is_back, "new controllers")


async def uids(it: Installation) -> set[str]:
    pods = (await it.get_json("pods", "-l", f"model.aibrix.ai/name={BASE}"))["items"]
    return {pod["metadata"]["uid"] for pod in pods}
