"""Ask a running brain, on its admin socket."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from pybrix.gateway.admin import SOCKET_NAME
from pybrix.gateway.errors import BrainUnavailable
from pybrix.local.layout import Layout
from pybrix.local.leftovers import nothing_runs
from pybrix.local.state import read_state

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_CONNECT_TIMEOUT_S = 1.0


def running_dir(run_dir: Path | None, data_dir: Path) -> Path:
    """Return the directory of a running brain's sockets: the one that is named, else one of the installation's.

    Of several gateways it is the first whose brain listens: while one is replaced another can be asked.

    Raises:
        UsageError: none is named and nothing runs on the data directory.
    """
    if run_dir is not None:
        return run_dir
    layout = Layout(data_dir)
    state = read_state(layout)
    if state is None:
        raise nothing_runs(layout, ", or pass --data-dir or --run-dir")
    others = (layout.gateway(number).run_dir for number in range(2, state.gateways + 1))
    first = Path(state.run_dir)
    return next((each for each in (first, *others) if _listens(each / SOCKET_NAME)), first)


def _listens(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(socket_path))
        except OSError:
            return False
    return True


async def ask_brain(
    run_dir: Path, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Return status and document of an answer: 200, or 404 for what there is none of.

    Raises:
        BrainUnavailable: nothing answers, or not as a brain does.
    """
    socket_path = run_dir / SOCKET_NAME
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket_path)), timeout=_TIMEOUT) as session,
            session.request(method, f"http://brain{path}", data=body, headers=headers) as response,
        ):
            if response.status not in (200, 404):
                raise BrainUnavailable(socket_path, f"it answers {response.status}")
            text = await response.read()
            is_document = response.content_type == "application/json"
            if not is_document:
                raise BrainUnavailable(socket_path, f"it knows no {path}: another version?")
            return response.status, msgspec.json.decode(text)
    except TimeoutError as err:
        raise BrainUnavailable(socket_path, f"nothing came within {_TIMEOUT.total:.0f} s") from err
    except (aiohttp.ClientConnectorError, FileNotFoundError, ConnectionRefusedError) as err:
        raise BrainUnavailable(socket_path) from err
    except (aiohttp.ClientError, OSError, msgspec.DecodeError) as err:
        raise BrainUnavailable(socket_path, str(err)) from err


def pretty(document: Any) -> str:
    """Return a document as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
