"""Ask the engine of a head pod how many requests it still has."""

from __future__ import annotations

import asyncio

import aiohttp

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.controllers.rayclusterreplicaset.state import Head
from pybrix.engine.metrics import METRIC_NAMES, Engine
from pybrix.engine.prometheus import extract_sums

TIMEOUT_S = 2.0


async def ask_head(http: aiohttp.ClientSession, pod: Pod) -> Head:
    """Return the head with its running and waiting requests; an answer that says nothing is not taken for idleness."""
    if not pod.status.pod_ip:
        return Head(pod, requests=0)
    url = f"http://{pod.status.pod_ip}:{_port(pod)}/metrics"
    try:
        async with asyncio.timeout(TIMEOUT_S), http.get(url) as response:
            page = await response.read()
            is_answer = response.status == 200
    except aiohttp.ClientConnectorError as error:
        # Nobody listens: the engine has ended.
        return Head(pod, requests=0 if isinstance(error.os_error, ConnectionRefusedError) else None)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return Head(pod)
    label = pod.metadata.labels.get(names.MODEL_ENGINE, "")
    series = METRIC_NAMES[Engine(label)] if label in set(Engine) else METRIC_NAMES[Engine.VLLM]
    sums = extract_sums(page, (series.running, series.waiting))
    return Head(pod, requests=int(sum(sums.values()))) if is_answer and series.running in sums else Head(pod)


def _port(pod: Pod) -> str:
    meta = pod.metadata
    for name in (names.METRIC_PORT, names.MODEL_PORT):
        text = meta.labels.get(name) or meta.annotations.get(name, "")
        if text.isascii() and text.isdigit():
            return text
    return str(names.DEFAULT_MODEL_PORT)
