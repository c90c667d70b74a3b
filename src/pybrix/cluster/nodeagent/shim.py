"""The library that turns wildcard binds into binds to the pod's IP: compiled once, cached by what it is made from."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import secrets
import shutil
import struct
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

POD_IP_VARIABLE = "PYBRIX_POD_IP"
_COMPILERS = ("cc", "gcc", "clang")
_PT_INTERP = 3


def shim_source() -> bytes:
    """Return the C source of the shim."""
    return resources.files("pybrix.cluster.nodeagent").joinpath("shim.c").read_bytes()


def find_compiler(search_path: str) -> tuple[str, ...] | None:
    """Return the command of a C compiler: the machine's, or that of the `ziglang` wheel beside pybrix."""
    installed = next((c for name in _COMPILERS if (c := shutil.which(name, path=search_path))), None)
    if installed is not None:
        return (installed,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    return None


async def build_shim(
    directory: Path, *, search_path: str, find: Callable[[str], tuple[str, ...] | None] = find_compiler
) -> Path | None:
    """Return the compiled shim, from the cache where it is there; None without a working C compiler.

    Args:
        directory: the cache.
        search_path: where compilers are looked for, as PATH.
        find: returns a compiler's command, or None.
    """
    source = shim_source()
    digest = hashlib.sha256(source).hexdigest()[:16]
    target = directory.absolute() / f"shim-{digest}-{platform.machine()}.so"
    if target.exists():
        return target
    compiler = find(search_path)
    if compiler is None:
        _log.warning("no C compiler: pods that bind the wildcard address collide on their ports")
        return None
    directory.mkdir(parents=True, exist_ok=True)
    # Agents of several nodes may compile it at the same time.
    temporary = target.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.tmp")
    command = (*compiler, "-shared", "-fPIC", "-O2", "-x", "c", "-", "-o", str(temporary), "-ldl")
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        # The caches of the ziglang wheel's compiler; others ignore them.
        env={
            "PATH": search_path,
            "ZIG_GLOBAL_CACHE_DIR": str(directory / "zig"),
            "ZIG_LOCAL_CACHE_DIR": str(directory / "zig"),
        },
    )
    _, errors = await process.communicate(source)
    if process.returncode != 0:
        _log.warning(
            "the bind shim does not compile", compiler=compiler[0], error=errors.decode(errors="replace")[-500:]
        )
        temporary.unlink(missing_ok=True)
        return None
    # A rename, so that an agent that starts at the same time never loads half a file.
    os.replace(temporary, target)
    return target


def is_static(program: Path) -> bool:
    """Say whether a program is a static ELF binary, which no preloaded library reaches. Scripts are not.

    Source of the layout: elf(5).
    """
    try:
        with program.open("rb") as file:
            header = file.read(64)
            if header[:4] != b"\x7fELF" or len(header) < 64 or header[4] != 2:
                return False
            order = "<" if header[5] == 1 else ">"
            (offset,) = struct.unpack_from(f"{order}Q", header, 32)
            size, count = struct.unpack_from(f"{order}HH", header, 54)
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    kinds = [struct.unpack_from(f"{order}I", table, index * size)[0] for index in range(len(table) // max(size, 1))]
    return bool(kinds) and _PT_INTERP not in kinds
