"""Running commands in containers over WebSockets, and plain words about what this cluster does not stream.

The protocol is `v5.channel.k8s.io`: each message begins with the number of its channel (0 to 2 are the command's, 3
tells at the end how it ended, 4 sets the size of the terminal, 255 closes another one).
https://kubernetes.io/docs/reference/using-api/api-concepts/ and KEP-4006.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import WSMsgType, web

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.execs import STDIN, ExecProvider, ExecSession
from pybrix.cluster.apiserver.failures import bad_request, failure
from pybrix.cluster.apiserver.options import parse_bool
from pybrix.cluster.apiserver.podlogs import container_of

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_ERROR, _RESIZE, _CLOSE = 3, 4, 255
_MESSAGE_LIMIT_BYTES = 32 * 1024 * 1024


async def answer_exec(
    request: web.BaseRequest, pod: Mapping[str, Any], key: ObjectKey, execs: ExecProvider | None
) -> web.StreamResponse:
    """Run a command in one of a pod's containers, as the query asks for it."""
    query = request.query
    command = query.getall("command", [])
    if not command:
        raise bad_request("you must specify at least one command for the container")
    container = container_of(pod, query.get("container", ""))
    if execs is None:
        raise failure(503, "ServiceUnavailable", "this server has no node agent that could run commands")
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {key.name} does not have a host assigned")
    phase = pod.get("status", {}).get("phase", "")
    if phase in ("Succeeded", "Failed"):
        raise bad_request(f"cannot exec into a container in a completed pod; current phase is {phase}")
    execs.require_running(key.namespace, key.name, container)
    # Last: kubectl asks again over SPDY when its WebSocket is refused, and shows the second answer.
    offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if request.headers.get("Upgrade", "").lower() != "websocket" or not set(offered) & set(PROTOCOLS):
        raise bad_request(
            f"this server runs commands over WebSockets with {PROTOCOLS[0]} alone: use kubectl 1.31 or newer"
        )
    session = await execs.execute(
        key.namespace,
        key.name,
        container,
        command,
        has_input=parse_bool(query, "stdin"),
        has_terminal=parse_bool(query, "tty"),
    )
    try:
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_MESSAGE_LIMIT_BYTES, compress=False)
        await socket.prepare(request)
        await _carry(socket, session, can_close_input=socket.ws_protocol == PROTOCOLS[0])
    finally:
        await session.close()
    return socket


def refuse_stream(pod: Mapping[str, Any], key: ObjectKey, subresource: str) -> web.StreamResponse:
    """Say what is to be done instead of what this cluster does not stream."""
    if subresource == "portforward":
        address = pod.get("status", {}).get("podIP") or "the pod's address"
        raise bad_request(
            f"this cluster forwards no ports, since its pods can be reached as they are: connect to {address} "
            f"and the port that {key.name} listens on"
        )
    raise bad_request(
        "this cluster attaches to no containers: their input is closed; read their output with kubectl logs -f, "
        "or run a command in them with kubectl exec"
    )


async def _carry(socket: web.WebSocketResponse, session: ExecSession, *, can_close_input: bool) -> None:
    """Carry input and output until the command has ended or the client has gone."""
    async with asyncio.TaskGroup() as group:
        inwards = group.create_task(_inwards(socket, session, can_close_input=can_close_input))
        outwards = group.create_task(_outwards(socket, session))
        done, _ = await asyncio.wait((inwards, outwards), return_when=asyncio.FIRST_COMPLETED)
        inwards.cancel()
        if outwards not in done:
            outwards.cancel()
    if not socket.closed:
        await socket.close()


async def _outwards(socket: web.WebSocketResponse, session: ExecSession) -> None:
    with contextlib.suppress(ConnectionError):
        while (output := await session.read()) is not None:
            channel, data = output
            await socket.send_bytes(bytes([channel]) + data)
        await socket.send_bytes(bytes([_ERROR]) + json.dumps(exit_status(await session.wait())).encode())


async def _inwards(socket: web.WebSocketResponse, session: ExecSession, *, can_close_input: bool) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await session.write(data)
        elif channel == _RESIZE:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                size = json.loads(data)
                session.resize(int(size["Width"]), int(size["Height"]))
        elif channel == _CLOSE and can_close_input and data[:1] == bytes([STDIN]):
            session.close_input()


def exit_status(code: int) -> dict[str, Any]:
    """Return the `Status` that tells a client how a command ended."""
    if code == 0:
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
