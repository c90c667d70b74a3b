"""`pybrix bench drive` beside a test: a steady mixed load in a process of its own, every byte checked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import psutil

from tests.support.installation import PYBRIX, Installation, eventually


@dataclass
class Driven:
    """What the driver has reported; empty while it runs."""

    report: dict[str, Any] = field(default_factory=dict)

    def assert_nothing_failed(self, *, at_least: int) -> None:
        failures = self.report["failures"]
        assert not failures, f"{len(failures)} failed: {failures[:3]} ... {failures[-3:]}"
        assert self.report["succeeded"] == self.report["sent"] >= at_least
        cancelled = [self.report["kinds"][kind]["succeeded"] for kind in ("cancelled", "abandoned", "long-stream")]
        assert all(cancelled), "not every kind of request was sent"


@asynccontextmanager
async def driven(installation: Installation, *, rate_per_s: float = 100, mix: str = "") -> AsyncIterator[Driven]:
    """Keep the load up for the body of the block; the report is there after it."""
    process = await asyncio.create_subprocess_exec(
        *(*PYBRIX, "bench", "drive", "--url", installation.gateway_url, "--model", "simulated"),
        *("--rate", str(rate_per_s), "--duration", "0", "--expect", "simulator", "-o", "json"),
        *(("--mix", mix) if mix else ()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    told = asyncio.create_task(process.communicate())
    it = Driven()

    async def has_begun() -> bool:
        assert process.returncode is None, "the driver has ended"
        connections = psutil.net_connections("tcp")
        return any(each.pid == process.pid and each.status == psutil.CONN_ESTABLISHED for each in connections)

    try:
        # Nothing is to happen before there is load.
        await eventually(has_begun, "the driver is connected")
        yield it
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(told, 60)
    assert out, err.decode()
    it.report = msgspec.json.decode(out)
    failures = it.report["failures"]
    # Seen with `pytest -s`, and where a test fails.
    cut = sum(each["cause"] == "cut" for each in failures)
    sys.stdout.write(f"{it.report['sent']} requests, {len(failures)} failed, {cut} of them cut\n")
