"""`pybrix kvcache`: what is told of a cache, from what its controller wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from pybrix.api.scheme import decode
from pybrix.base.errors import UsageError
from pybrix.cli.kvcache_commands import describe, fetch_cache, print_status, render_ring, render_status
from pybrix.cli.main import cli
from pybrix.controllers.cachecluster.record import render_record
from pybrix.controllers.membership.records import Member, next_record
from tests.support.memoryapi import MemoryApi

READY = {"type": "Ready", "status": "True", "reason": "Available", "message": "fine"}


def pool() -> Any:
    metadata = {"kind": "redis", "reachable": True, "address": "r:6379", "latencyMilliseconds": 2}
    return decode(
        {
            "apiVersion": "kvcache.aibrix.ai/v1alpha1",
            "kind": "KVCachePool",
            "metadata": {"name": "shared", "namespace": "team"},
            "spec": {"cache": {"image": "i"}, "replicas": 2},
            "status": {"readyReplicas": 2, "metadata": metadata, "conditions": [READY]},
        }
    )


def filled(api: MemoryApi) -> None:
    obj = api.put(pool())
    members = [Member(f"shared-{number}", f"10.0.0.{number}", 9600) for number in range(2)]
    record = next_record(None, members, owner="KVCachePool team/shared", slots=4096)
    manifest = render_record(obj, record, {})
    api.put(decode(msgspec.json.decode(msgspec.json.encode(manifest))))


async def test_members_slots_and_health_of_a_pool() -> None:
    api = MemoryApi()
    filled(api)
    cache = await fetch_cache(api, "team", "shared")
    said = describe(cache)
    assert (said["ready"], said["membershipVersion"], said["replicas"]) == (True, 1, {"desired": 2, "ready": 2})
    assert [(m["name"], m["slots"]) for m in said["members"]] == [("shared-0", 2048), ("shared-1", 2048)]
    text = "\n".join(render_status(cache))
    assert "2 of 2 cache servers are ready, membership version 1" in text
    assert "redis at r:6379 answers within 2 ms" in text
    assert "Available" in text


async def test_the_picture_has_a_cell_for_every_few_slots() -> None:
    api = MemoryApi()
    filled(api)
    record = (await fetch_cache(api, "team", "pool/shared")).record
    assert record is not None
    lines = render_ring(record)
    cells = "".join(line[8:] for line in lines if line[:8].strip().isdigit())
    assert len(cells) == 1024
    assert set(cells) == {"A", "B"}
    assert any(line.startswith("A") and "shared-0" in line and "50.0%" in line for line in lines)


async def test_a_cache_that_nobody_has_looked_at_yet() -> None:
    api = MemoryApi()
    kind = {"apiVersion": "orchestration.aibrix.ai/v1alpha1", "kind": "KVCache"}
    api.put(decode({**kind, "metadata": {"name": "c", "namespace": "team"}, "spec": {"cache": {"replicas": 1}}}))
    cache = await fetch_cache(api, "team", "cache/c")
    assert not cache.is_ready
    assert "No members are published." in render_status(cache)
    with pytest.raises(UsageError, match="no KVCachePool 'c' in namespace team"):
        await fetch_cache(api, "team", "pool/c")
    with pytest.raises(UsageError, match="pool/NAME or cache/NAME"):
        await fetch_cache(api, "team", "deployment/c")


async def test_a_pool_and_a_kvcache_of_one_name_are_told_apart() -> None:
    api = MemoryApi()
    filled(api)
    kind = {"apiVersion": "orchestration.aibrix.ai/v1alpha1", "kind": "KVCache"}
    cache: Any = api.put(decode({**kind, "metadata": {"name": "shared", "namespace": "team"}, "spec": {"cache": {}}}))
    record = next_record(None, [Member("other", "10.0.0.9", 9600)], owner="KVCache team/shared", slots=4096)
    api.put(decode(msgspec.json.decode(msgspec.json.encode(render_record(cache, record, {})))))
    for name, members in (
        ("pool/shared", ["shared-0", "shared-1"]),
        ("kvcachepool.kvcache.aibrix.ai/shared", ["shared-0", "shared-1"]),
        ("kvcache.orchestration.aibrix.ai/shared", ["other"]),
    ):
        found = describe(await fetch_cache(api, "team", name))
        assert [member["name"] for member in found["members"]] == members


async def test_a_server_that_answers_and_refuses_is_not_said_to_be_silent() -> None:
    api = MemoryApi()
    refused = {"type": "MetadataReachable", "status": "False", "reason": "AuthenticationFailed", "message": "no"}
    obj = api.put(pool())
    api.change(obj, {"status": {"metadata": {"reachable": False}, "conditions": [READY, refused]}})
    lines = render_status(await fetch_cache(api, "team", "shared"))
    assert "Metadata: redis at r:6379 cannot be used: AuthenticationFailed" in lines


async def test_a_cache_that_is_not_ready_ends_the_text_with_1_and_the_json_with_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = MemoryApi()
    api.change(api.put(pool()), {"status": {"conditions": [READY | {"status": "False", "reason": "MembersNotReady"}]}})
    cache = await fetch_cache(api, "team", "shared")
    print_status(cache, is_json=True)
    assert msgspec.json.decode(capsys.readouterr().out)["ready"] is False
    with pytest.raises(SystemExit) as ended:
        print_status(cache, is_json=False)
    assert ended.value.code == 1
    assert "MembersNotReady" in capsys.readouterr().out


def test_help_has_examples() -> None:
    for command in ((), ("status",), ("ring",)):
        shown = CliRunner().invoke(cli, ["kvcache", *command, "--help"])
        assert shown.exit_code == 0
        assert "Examples:" in shown.output
