"""The bind shim, in real processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from pybrix.cluster.nodeagent.shim import POD_IP_VARIABLE, build_shim, is_static

PATH = os.defpath + ":/usr/local/bin"
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

# Binds what it is told to and prints where that led to.
_PROGRAM = """
import json, socket, sys
family, host, port, v6only = json.loads(sys.argv[1])
family = getattr(socket, family)
s = socket.socket(family, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
s.bind((host, port))
s.listen()
print(json.dumps(s.getsockname()[:2]))
"""


async def bound(shim: Path, pod_ip: str, family: str, host: str, port: int, v6only: int = 0) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROGRAM,
        json.dumps([family, host, port, v6only]),
        env={"LD_PRELOAD": str(shim), POD_IP_VARIABLE: pod_ip},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    address, number = json.loads(out)
    return address, number


async def test_turns_wildcards_to_the_pod_ip_and_nothing_else(tmp_path: Path) -> None:
    shim = await build_shim(tmp_path, search_path=PATH)
    assert shim is not None
    assert await bound(shim, "127.200.9.1", "AF_INET", "0.0.0.0", 21200) == ("127.200.9.1", 21200)
    assert await bound(shim, "127.200.9.1", "AF_INET", "127.200.9.2", 21200) == ("127.200.9.2", 21200)
    assert (await bound(shim, "127.200.9.1", "AF_INET", "0.0.0.0", 0))[0] == "0.0.0.0"
    assert await bound(shim, "127.200.9.1", "AF_INET6", "::", 21201) == ("::ffff:127.200.9.1", 21201)
    address, port = await bound(shim, "127.200.9.1", "AF_INET6", "::", 21202, v6only=1)
    assert address == "::1"
    assert port != 21202
    assert await bound(shim, "not an address", "AF_INET", "0.0.0.0", 21203) == ("0.0.0.0", 21203)


async def test_is_compiled_once(tmp_path: Path) -> None:
    first = await build_shim(tmp_path, search_path=PATH)
    assert first is not None
    built = first.stat().st_mtime_ns
    assert await build_shim(tmp_path, search_path="/nonexistent") == first
    assert first.stat().st_mtime_ns == built
    assert [p.name for p in tmp_path.iterdir()] == [first.name]


async def test_no_compiler_means_no_shim(tmp_path: Path) -> None:
    assert await build_shim(tmp_path, search_path="/nonexistent", find=lambda _: None) is None


async def test_a_broken_compiler_means_no_shim(tmp_path: Path) -> None:
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "cc").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    (fake / "cc").chmod(0o755)
    assert await build_shim(tmp_path / "cache", search_path=str(fake)) is None


async def test_static_binaries_are_recognised(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text("int main(void) { return 0; }\n")
    for name, flags in (("dynamic", []), ("static", ["-static"])):
        process = await asyncio.create_subprocess_exec("cc", *flags, str(source), "-o", str(tmp_path / name))
        assert await process.wait() == 0
    assert is_static(tmp_path / "static")
    assert not is_static(tmp_path / "dynamic")
    assert not is_static(source)
    assert not is_static(tmp_path / "missing")
