"""One installation seen by its user: commands, kubectl, errors, steering headers, stop and start again."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

from pybrix.envoy.wire import FALLBACK_STRATEGY
from tests.support.installation import PYBRIX, Installation, eventually, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up("--simulate", "2")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        it.down()


async def test_chat_names_the_pod_that_answered(installation: Installation) -> None:
    finished = await run(*PYBRIX, "chat", "--data-dir", str(installation.data_dir), "How are you?")
    answer = finished.checked()
    pods = [pod["metadata"]["name"] for pod in (await installation.get_json("pods"))["items"]]
    assert answer.strip()
    assert any(name in finished.stdout + finished.stderr for name in pods)


async def test_status_shows_every_part(installation: Installation) -> None:
    printed = (await run(*PYBRIX, "status", "--data-dir", str(installation.data_dir), "-o", "json")).checked()
    status = msgspec.json.decode(printed)
    assert {part["name"] for part in status["processes"]} == {"cluster", "controllers", "brain", "envoy"}
    assert all(part["running"] for part in status["processes"])
    assert [(m["model"], m["ready"]) for m in status["models"]] == [("simulated", 2)]


async def test_a_second_up_says_where_the_first_answers(installation: Installation) -> None:
    second = await run(*PYBRIX, "up", "--simulate", "1", "--port", "0", "--data-dir", str(installation.data_dir))
    assert second.returncode == 1
    assert "already running" in second.stderr
    assert installation.gateway_url in second.stderr


async def test_a_taken_port_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        refused = await run(*PYBRIX, "up", "--simulate", "1", "--port", str(port), "--data-dir", str(tmp_path / "d"))
    assert refused.returncode == 1
    (line,) = [text for text in refused.stderr.splitlines() if text]
    assert f"port {port}" in line
    assert "--port" in line
    assert not (tmp_path / "d" / "up.json").exists()


async def test_a_missing_envoy_is_one_line(tmp_path: Path) -> None:
    refused = await run(
        *PYBRIX, "up", "--simulate", "1", "--port", "0", "--envoy-path", "/nowhere/envoy", "--data-dir", str(tmp_path)
    )
    assert refused.returncode == 1
    assert "/nowhere/envoy" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("is_brain_up", [True, False], ids=["brain up", "brain stopped"])
async def test_a_client_cannot_steer(installation: Installation, is_brain_up: bool) -> None:
    brain = installation.process("brain")
    with closing(socket.create_server(("127.0.0.1", 0))) as trap:
        trap.settimeout(0)
        address = f"127.0.0.1:{trap.getsockname()[1]}"
        hostile = {
            "target-pod": address,
            "target-pod-ip": address,
            "x-pybrix-endpoints": address,
            "x-pybrix-cluster": "kube-system/secrets",
            "x-pybrix-reservation": "mine",
            "x-pybrix-strategy": "mine",
            "x-envoy-original-dst-host": address,
            "x-envoy-upstream-rq-timeout-ms": "1",
            "x-envoy-max-retries": "0",
            "x-envoy-decorator-operation": "x",
            "x-request-id": "mine",
        }
        if not is_brain_up:
            brain.send_signal(signal.SIGSTOP)
        try:
            for _ in range(8):
                status, answer, headers = await installation.ask(headers=hostile)
                assert status == 200, answer
                assert headers["target-pod"].startswith("simulated-")
                assert headers["target-pod-ip"] != address
                assert headers["routing-strategy"] != "mine"
                assert headers["request-id"] != "mine"
            if not is_brain_up:
                assert headers["routing-strategy"] == FALLBACK_STRATEGY
        finally:
            brain.send_signal(signal.SIGCONT)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.parametrize("is_brain_up", [True, False], ids=["brain up", "brain stopped"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b'{"model": "nobody", "messages": []}', 404, "model_not_found", id="unknown model"),
        pytest.param(b"not json", 400, None, id="no JSON"),
        pytest.param(b'{"messages": []}', 400, None, id="no model"),
    ],
)
async def test_errors_are_openai_shaped(
    installation: Installation, is_brain_up: bool, body: bytes, status: int, code: str | None
) -> None:
    brain = installation.process("brain")
    if not is_brain_up:
        brain.send_signal(signal.SIGSTOP)
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{installation.gateway_url}/v1/chat/completions",
                data=body,
                headers={"content-type": "application/json"},
            ) as response,
        ):
            answer = msgspec.json.decode(await response.read())
    finally:
        brain.send_signal(signal.SIGCONT)
    assert response.status == status
    assert {"message", "type", "code", "param"} <= answer["error"].keys()
    if code:
        assert answer["error"]["code"] == code
        assert "simulated" in answer["error"]["message"], "the names that exist are listed"


async def test_a_body_over_the_limit_is_413(installation: Installation) -> None:
    body = b'{"model": "simulated", "pad": "' + b"x" * (33 * 1024 * 1024) + b'"}'
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{installation.gateway_url}/v1/chat/completions", data=BytesIO(body)) as response,
    ):
        answer = msgspec.json.decode(await response.read())
    assert response.status == 413
    assert answer["error"]["type"] == "invalid_request_error"


async def test_models_are_listed_while_the_brain_is_away(installation: Installation) -> None:
    brain = installation.process("brain")
    brain.send_signal(signal.SIGSTOP)
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{installation.gateway_url}/v1/models") as response,
        ):
            listing = msgspec.json.decode(await response.read())
    finally:
        brain.send_signal(signal.SIGCONT)
    assert [model["id"] for model in listing["data"]] == ["simulated"]


async def test_quickstart_looks_as_on_a_real_cluster(installation: Installation) -> None:
    await installation.kubectl("apply", "-f", str(ROOT / "examples" / "quickstart"))
    await installation.kubectl("rollout", "status", "deployment/tiny-chat", "--timeout=60s")
    await installation.kubectl("wait", "--for=condition=Ready", "pod", "-l", "model.aibrix.ai/name=tiny-chat")
    # The controllers write once more after the last pod is ready.
    await eventually(lambda: _has_endpoints(installation, "tiny-chat", 2), "two ready endpoints")
    printed = await installation.kubectl("get", "pods,svc,deploy,endpointslices", "-o", "wide")
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    deployment = rows["deployment.apps/tiny-chat"]
    assert deployment[1:4] == ["2/2", "2", "2"]
    assert deployment[5:8] == ["engine", "pybrix/simulator", "model.aibrix.ai/name=tiny-chat"]
    service = rows["service/tiny-chat"]
    assert service[1] == "ClusterIP"
    assert service[4] == "8000/TCP"
    pods = [row for name, row in rows.items() if name.startswith("pod/tiny-chat-")]
    assert [row[1:4] for row in pods] == [["1/1", "Running", "0"]] * 2
    addresses = {row[5] for row in pods}
    assert len(addresses) == 2
    (endpoints,) = [row for name, row in rows.items() if name.startswith("endpointslice.discovery.k8s.io/tiny-chat-")]
    assert endpoints[1:3] == ["IPv4", "8000"]
    assert set(endpoints[3].split(",")) == addresses
    # kubectl shows events only when it describes a single object.
    name = next(name for name in rows if name.startswith("pod/tiny-chat-"))
    described = await installation.kubectl("describe", name)
    assert "Started container engine" in described
    await eventually(lambda: _is_served(installation, "tiny-chat"), "the gateway answers")
    logs = await installation.kubectl("logs", "deployment/tiny-chat")
    assert logs.strip()

    again = await installation.kubectl("apply", "-f", str(ROOT / "examples" / "quickstart"))
    assert [line.split()[-1] for line in again.splitlines()] == ["unchanged", "unchanged"]
    await installation.kubectl("delete", "-f", str(ROOT / "examples" / "quickstart"))
    await eventually(lambda: _is_gone(installation, "tiny-chat"), "the model is not served any more")


async def test_a_model_without_ready_endpoints_is_503(installation: Installation) -> None:
    await installation.kubectl("apply", "-f", str(ROOT / "examples" / "quickstart"))
    await installation.kubectl("rollout", "status", "deployment/tiny-chat", "--timeout=60s")
    await eventually(lambda: _is_routed(installation, "tiny-chat", 2), "two endpoints in the gateway's view")
    pods = (await installation.get_json("pods", "-l", "model.aibrix.ai/name=tiny-chat"))["items"]
    # A pod of an earlier test may be on its way out, and its engine with it.
    staying = [pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    engines = [process for pod_ip in staying for process in installation.engine_processes(pod_ip)]
    assert len(engines) == 2
    for engine in engines:
        engine.send_signal(signal.SIGSTOP)  # alive, and failing its readiness probe
    try:
        # Of the gateway, not of the API: what it sends to a stopped engine meanwhile gets no answer.
        await eventually(lambda: _is_routed(installation, "tiny-chat", 0), "no endpoint in the gateway's view")
        status, answer, headers = await installation.ask("tiny-chat")
    finally:
        for engine in engines:
            engine.send_signal(signal.SIGCONT)
    await installation.kubectl("delete", "-f", str(ROOT / "examples" / "quickstart"))
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert answer["error"]["type"] == "overloaded_error"


async def test_stop_and_start_again(installation: Installation) -> None:
    await installation.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    before = await _uids(installation, "simulated")
    started = {p.pid for name in ("cluster", "controllers", "brain", "envoy") for p in [installation.process(name)]}
    pod_processes = [
        process.pid
        for pod in (await installation.get_json("pods"))["items"]
        for process in installation.engine_processes(pod["status"]["podIP"])
    ]
    assert await asyncio.to_thread(lambda: installation.down().returncode) == 0
    assert [pid for pid in (*started, *pod_processes) if psutil.pid_exists(pid)] == [], "no process outlives down"

    up = await asyncio.to_thread(installation.up)
    assert up.returncode == 0, up.stdout + up.stderr
    await installation.kubectl("rollout", "status", "deployment/simulated", "--timeout=60s")
    await eventually(lambda: _has_endpoints(installation, "simulated", 2), "two ready endpoints")
    assert await _uids(installation, "simulated") == before
    assert (await installation.get_json("configmap", "kept"))["data"] == {"a": "b"}
    await eventually(lambda: _is_served(installation, "simulated"), "the gateway answers")


async def test_down_ends_everything_when_the_supervisor_and_the_cluster_were_killed(installation: Installation) -> None:
    parts = [installation.process(name) for name in ("cluster", "controllers", "brain", "envoy")]
    pods = await installation.get_json("pods", "-l", "model.aibrix.ai/name=simulated")
    engines = [p for pod in pods["items"] for p in installation.engine_processes(pod["status"]["podIP"])]
    assert len(engines) == 2
    psutil.Process(installation.state["supervisor"]["pid"]).kill()
    parts[0].kill()
    down = await asyncio.to_thread(installation.down)
    assert down.returncode == 0, down.stderr
    assert [p for p in (*parts, *engines) if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert (await asyncio.to_thread(installation.up)).returncode == 0
    assert await _uids(installation, "simulated") == {pod["metadata"]["uid"] for pod in pods["items"]}


async def _uids(installation: Installation, model: str) -> set[str]:
    pods = await installation.get_json("pods", "-l", f"model.aibrix.ai/name={model}")
    return {pod["metadata"]["uid"] for pod in pods["items"]}


async def _has_endpoints(installation: Installation, model: str, count: int) -> bool:
    slices = await installation.get_json("endpointslices", "-l", f"kubernetes.io/service-name={model}")
    ready = [e for s in slices["items"] for e in s.get("endpoints") or [] if e["conditions"].get("ready")]
    return len(ready) == count


async def _is_routed(installation: Installation, model: str, count: int) -> bool:
    """Say whether the gateway sends requests for a model to so many endpoints."""
    shown = await run(*PYBRIX, "status", "--data-dir", str(installation.data_dir), "-o", "json")
    models = msgspec.json.decode(shown.checked())["models"]
    return [each["ready"] for each in models if each["model"] == model] == [count]


async def _is_gone(installation: Installation, model: str) -> bool:
    # 503 while a Deployment may still bring pods (a minute), 404 after that.
    return (await installation.ask(model))[0] in (404, 503)


async def _is_served(installation: Installation, model: str) -> bool:
    return (await installation.ask(model))[0] == 200
