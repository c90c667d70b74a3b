"""`pybrix up --config`: what a GatewayConfiguration says holds on one machine, from the first start on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.installation import PYBRIX, Installation, eventually, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CONFIGURATION = """
apiVersion: config.pybrix.ai/v1alpha1
kind: GatewayConfiguration
routingStrategy: random
identity:
  isApiKeyRequired: true
"""


async def test_a_gateway_that_asks_for_keys_starts_and_counts_by_them(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    it = Installation(tmp_path / "up")
    started = it.up("--simulate", "1", "--config", str(file))
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert (await it.ask())[0] == 401

        async def manage(*arguments: str) -> str:
            finished = await run(*PYBRIX, "gateway", *arguments, "--data-dir", str(it.data_dir))
            return finished.checked().strip()

        await manage("users", "create", "alice", "--rpm", "2")
        key = await manage("keys", "create", "alice")
        bearer = {"authorization": f"Bearer {key}"}

        async def is_let_through() -> bool:
            status, _, headers = await it.ask(headers=bearer)
            return status == 200 and headers["routing-strategy"] == "random"

        await eventually(is_let_through, "Envoy has read the key")
        chat = await run(*PYBRIX, "chat", "--data-dir", str(it.data_dir), "--api-key", key, "Hello")
        assert chat.checked().strip()
        assert (await it.ask(headers=bearer))[0] == 429
        upgraded = await run(*PYBRIX, "upgrade", "--data-dir", str(it.data_dir), "-o", "json", timeout_s=120)
        assert json.loads(upgraded.checked())
        assert (await it.ask())[0] == 401, "an upgrade keeps the configuration"
        assert (await it.ask(headers=bearer))[0] != 401, "an upgrade keeps the keys"
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
