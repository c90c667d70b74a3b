"""A whole brain on its sockets, over an API server in memory."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.api.core import EndpointSlice
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.errors import UsageError
from pybrix.gateway import app
from pybrix.gateway.errors import BrainRunning
from pybrix.simulator.options import SimulatorOptions
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import DEFAULT_STRATEGY, make_adapter, make_pod, make_slice
from tests.support.podapi import PodApi
from tests.support.simulated import simulated
from tests.support.waiting import until, until_now


@pytest.fixture
def place() -> Iterator[Path]:
    # Socket paths are short; pytest's own directories may not be.
    with tempfile.TemporaryDirectory(prefix="pb") as path:
        yield Path(path)


@asynccontextmanager
async def brain(
    place: Path, api: PodApi, *, wait: bool = True, api_patience_s: float = 10.0, **options: Any
) -> AsyncIterator[BrainAddress]:
    address, config = BrainAddress(place / "run", place / "data"), GatewayConfiguration(**options)
    async with running_brain(address, api, config, wait=wait, api_patience_s=api_patience_s) as world:
        yield world


async def test_it_answers_from_pods_and_envoys_files_say_the_same(place: Path) -> None:
    api = PodApi(make_pod("a", ip="127.64.0.1"), make_pod("b", ip="127.64.0.2"))
    async with brain(place, api) as world:
        status, headers, _ = await world.decide()
        assert status == 200
        assert headers["x-pybrix-cluster"] == "default/m"
        assert sorted(headers["x-pybrix-endpoints"].split(",")) == ["127.64.0.1:8000", "127.64.0.2:8000"]
        assert "127.64.0.1" in world.endpoints()
        assert "127.64.0.2" in world.endpoints()
        status, _, body = await world.decide("unknown")
        assert (status, msgspec.json.decode(body)["error"]["code"]) == (404, "model_not_found")


async def test_a_request_counts_until_its_record_comes(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a"))) as world:
        _, headers, _ = await world.decide()
        _, state = await world.admin("/debug/view")
        assert state["reservations"]["held"] == 1
        assert state["models"][0]["endpoints"][0]["requestsInFlight"] == 1
        await world.log({"reservation": headers["x-pybrix-reservation"], "type": "DownstreamEnd", "status": 200})

        await until(world.is_idle)
        _, metrics = await world.admin("/metrics")
        assert f'pybrix_gateway_decisions_total{{strategy="{DEFAULT_STRATEGY}"}} 1.0' in metrics
        assert "pybrix_gateway_reservations_held 0.0" in metrics


async def test_requests_of_a_killed_envoy_count_no_more(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a"))) as world:
        for _ in range(3):
            _, headers, _ = await world.decide()
        await world.log({"reservation": headers["x-pybrix-reservation"], "type": "DownstreamEnd", "status": 200})

        async def two_are_left() -> bool:
            return await world.held() == 2

        await until(two_are_left)
        reader, successor = await asyncio.open_unix_connection(str(world.run_dir / "decision.sock"))
        successor.write(b"GET /healthz HTTP/1.1\r\nhost: brain\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        world.hang_up()
        await world.decide()
        assert await world.held() == 3, "a successor may still end them"

        successor.close()
        await until(world.is_idle)
        await world.decide()
        assert await world.held() == 1, "who only asks and leaves is no Envoy that died"


async def test_a_pod_that_turns_not_ready_is_out_of_the_files_by_the_event_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long after the event: tests/gateway/view/test_collector.py."""
    monkeypatch.setattr(app, "HOUSEKEEPING_S", 3600.0)
    api = PodApi(make_pod("a", ip="127.64.0.1"), make_pod("b", ip="127.64.0.2"))
    async with brain(place, api) as world:
        for _ in range(5):
            api.put(make_pod("b", ip="127.64.0.2", ready=False))
            await until_now(lambda: "127.64.0.2" not in world.endpoints())
            api.put(make_pod("b", ip="127.64.0.2"))
            await until_now(lambda: "127.64.0.2" in world.endpoints())


async def test_without_the_api_the_persisted_view_serves_until_the_api_is_back(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a", ip="127.64.0.1"))):
        pass
    api = PodApi(make_pod("b", ip="127.64.0.2"), is_reachable=False)
    async with brain(place, api, api_patience_s=0.05) as world:
        assert (await world.decide())[1]["x-pybrix-endpoints"] == "127.64.0.1:8000"
        _, state = await world.admin("/debug/view")
        assert (state["view"]["source"], state["view"]["contactAgeS"]) == ("persisted", None)
        api.come_back()
        await until_now(lambda: "127.64.0.2" in world.endpoints())
        assert (await world.decide())[1]["x-pybrix-endpoints"] == "127.64.0.2:8000"
        assert "127.64.0.1" not in world.endpoints()


@pytest.mark.parametrize(
    "take_away",
    [
        pytest.param(lambda api: api.missing.update({ModelAdapter}), id="the kind is not installed"),
        pytest.param(lambda api: api.forbidden.update({ModelAdapter, EndpointSlice}), id="there is no right to read"),
    ],
)
async def test_what_cannot_be_read_of_adapters_keeps_nothing_back(
    place: Path, take_away: Callable[[PodApi], None]
) -> None:
    api = PodApi(make_pod("a", uid="u1"), make_slice("lora", "u1"))
    take_away(api)
    async with brain(place, api) as world:
        assert (await world.decide())[0] == 200
        api.missing.clear()
        api.forbidden.clear()
        api.put(make_adapter("later", ready=False, message="no candidate pods"))

        async def is_routed() -> bool:
            return (await world.decide("lora"))[0] == 200

        async def is_known() -> bool:
            status, headers, body = await world.decide("later")
            return (status, b"no candidate pods" in body, headers.get("retry-after")) == (480, True, "5")

        await until(is_routed)
        await until(is_known)


async def test_engines_are_asked_for_their_metrics_and_the_answers_are_shown(place: Path) -> None:
    async with simulated(SimulatorOptions(("m",))) as engine:
        port = engine.url.rpartition(":")[2]
        pod = make_pod("a", ip="127.0.0.1", labels={"model.aibrix.ai/port": port})
        async with brain(
            place, PodApi(pod, make_pod("silent", ip="127.64.0.77")), engine_metrics_interval_s=0.05
        ) as world:

            async def seen() -> bool:
                endpoints = (await world.admin("/debug/view"))[1]["models"][0]["endpoints"]
                found = {each["pod"]: each["metrics"] for each in endpoints}
                return found["silent"] is None and bool(found["a"]) and found["a"]["kvCapacityTokens"] > 0

            await until(seen)
            _, metrics = await world.admin("/metrics")
            assert 'pybrix_gateway_engine_requests_running{namespace="default",pod="a"' in metrics
            assert 'pybrix_gateway_engine_metrics_age_seconds{namespace="default",pod="a"' in metrics
            assert 'pybrix_gateway_engine_scrapes_total{result="failure"}' in metrics


async def test_no_engine_is_asked_when_the_interval_is_zero(place: Path) -> None:
    async with simulated(SimulatorOptions(("m",))) as engine:
        pod = make_pod("a", ip="127.0.0.1", labels={"model.aibrix.ai/port": engine.url.rpartition(":")[2]})
        async with brain(place, PodApi(pod), engine_metrics_interval_s=0) as world:
            assert (await world.decide())[0] == 200
            _, metrics = await world.admin("/metrics")
            assert 'pybrix_gateway_engine_scrapes_total{result="success"} 0.0' in metrics


async def test_without_the_api_adapters_come_from_the_persisted_view(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a", uid="u1"), make_slice("lora", "u1"), make_adapter("lora"))):
        pass
    async with brain(place, PodApi(is_reachable=False), api_patience_s=0.05) as world:
        assert (await world.decide("lora"))[1]["x-pybrix-cluster"] == "default/lora"


async def test_without_the_api_and_without_a_view_it_waits_and_writes_nothing(place: Path) -> None:
    api = PodApi(make_pod("a"), is_reachable=False)
    async with brain(place, api, wait=False, api_patience_s=0.01) as world:
        await until_now(lambda: (world.run_dir / "brain-admin.sock").exists())
        status, why = await world.admin("/readyz")
        assert (status, "view: none" in why) == (503, True)
        assert (await world.admin("/healthz"))[0] == 200
        assert not (world.run_dir / "decision.sock").exists()
        assert list((world.data_dir / "xds").iterdir()) == []
        api.come_back()
        await until(world.is_ready)
        assert (await world.decide())[0] == 200


async def test_an_api_that_goes_away_changes_nothing_and_the_view_ages(place: Path) -> None:
    api = PodApi(make_pod("a"))
    async with brain(place, api) as world:
        files = world.endpoints()
        api.go_away()

        async def age_s() -> float:
            found: float = (await world.admin("/debug/view"))[1]["view"]["contactAgeS"]
            return found

        first = await age_s()

        async def is_older() -> bool:
            return await age_s() > first

        await until(is_older)
        assert (await world.decide())[0] == 200
        assert world.endpoints() == files


async def test_an_empty_cluster_is_ready_and_knows_no_model(place: Path) -> None:
    async with brain(place, PodApi()) as world:
        assert (await world.decide())[0] == 404


async def test_explain_ranks_without_reserving(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a"))) as world:
        status, got = await world.admin("/debug/explain", data=b'{"model":"m"}')
        assert (status, got["strategy"]) == (200, DEFAULT_STRATEGY)
        assert "0 requests in flight" in got["ranking"][0]["why"]
        _, refused = await world.admin("/debug/explain", data=b"{}", headers={"routing-strategy": "random"})
        assert refused["refused"]["reason"] == "model_missing"
        assert (await world.admin("/debug/view"))[1]["reservations"]["held"] == 0


async def test_namespaces_of_the_configuration_bound_what_is_seen(place: Path) -> None:
    api = PodApi(make_pod("a", namespace="one"), make_pod("b", namespace="two", model="n", ip="127.64.0.2"))
    async with brain(place, api, namespaces=["one"]) as world:
        assert (await world.decide("m"))[0] == 200
        assert (await world.decide("n"))[0] == 404


async def test_a_second_brain_is_refused_and_a_dead_ones_sockets_are_taken_over(place: Path) -> None:
    (place / "run").mkdir(mode=0o700)
    for name in ("decision.sock", "accesslog.sock", "brain-admin.sock"):
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(place / "run" / name))
    api = PodApi(make_pod("a"))
    async with brain(place, api) as world:
        with pytest.raises(BrainRunning, match=str(os.getpid())):
            async with brain(place, api):
                pass
        assert (await world.decide())[0] == 200
    assert not any((place / "run").glob("*.sock"))


async def test_a_run_directory_open_to_others_is_refused(place: Path) -> None:
    (place / "run").mkdir(mode=0o755)
    (place / "run").chmod(0o755)
    with pytest.raises(UsageError, match="chmod 700"):
        async with brain(place, PodApi()):
            pass


async def test_a_run_directory_too_long_for_sockets_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        async with brain(place / ("x" * 100), PodApi()):
            pass


async def test_a_stop_refuses_new_connections_and_finishes_what_is_being_asked(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a"))) as world:
        path = str(world.run_dir / "decision.sock")
        reader, writer = await asyncio.open_unix_connection(path)
        idle_reader, idle_writer = await asyncio.open_unix_connection(path)
        body = b'{"model":"m"}'
        writer.write(b"POST /v1/x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:4])
        await writer.drain()
        await world.decide()  # by now the other connection's bytes have been read
        world.stop.set()
        assert await idle_reader.read() == b""
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            await asyncio.open_unix_connection(path)
        writer.write(body[4:])
        reply = await reader.read()
        assert reply.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in reply
        for each in (writer, idle_writer):
            each.close()


async def test_a_second_signal_cuts_what_is_being_asked_and_counts_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "DRAIN_GRACE_S", 3600.0)
    async with brain(place, PodApi(make_pod("a"))) as world:
        reader, writer = await asyncio.open_unix_connection(str(world.run_dir / "decision.sock"))
        writer.write(b"POST /v1/x HTTP/1.1\r\ncontent-length: 9\r\n\r\n{")
        await writer.drain()
        await world.decide()  # by now the other connection's bytes have been read
        world.stop.set()
        world.hurry.set()
        assert await reader.read() == b""
        writer.close()
    assert world.decisions_cut == 1
    assert not any(world.run_dir.glob("*.sock"))


async def test_envoys_log_connections_may_come_and_go_and_be_wrong(place: Path) -> None:
    async with brain(place, PodApi(make_pod("a"))) as world:
        reader, writer = await asyncio.open_unix_connection(str(world.run_dir / "accesslog.sock"))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        for number in itertools.count():
            _, headers, _ = await world.decide()
            await world.log({"reservation": headers["x-pybrix-reservation"], "type": "DownstreamEnd", "status": 200})
            if number == 3:
                break

        async def ended() -> bool:
            return 'records_total{kind="end"} 4.0' in (await world.admin("/metrics"))[1]

        await until(ended)
