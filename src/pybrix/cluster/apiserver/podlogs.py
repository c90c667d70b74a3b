"""Reading the logs of containers over HTTP.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#get-read-log-of-the-specified-pod
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.answers import stream_answer
from pybrix.cluster.apiserver.failures import bad_request, failure
from pybrix.cluster.apiserver.logs import LogProvider
from pybrix.cluster.apiserver.options import parse_bool, parse_int

_FIRST_LOG_WAIT_S = 0.3


async def read_log(
    request: web.BaseRequest, pod: Mapping[str, Any], key: ObjectKey, logs: LogProvider | None
) -> web.StreamResponse:
    """Answer with the output of one of a pod's containers, as the query asks for it."""
    query = request.query
    container = container_of(pod, query.get("container", ""))
    if logs is None:
        raise failure(503, "ServiceUnavailable", "this server has no node agent that could read logs")
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {key.name} does not have a host assigned")
    pieces = logs.read(
        key.namespace,
        key.name,
        container,
        follow=parse_bool(query, "follow"),
        tail_lines=_not_negative(query, "tailLines"),
        since_seconds=_not_negative(query, "sinceSeconds"),
        since_time=query.get("sinceTime") or None,
        previous=parse_bool(query, "previous"),
        timestamps=parse_bool(query, "timestamps"),
        limit_bytes=_not_negative(query, "limitBytes"),
    )
    return await stream_answer(request, pieces, "text/plain", first_wait_s=_FIRST_LOG_WAIT_S)


def _not_negative(query: Mapping[str, str], name: str) -> int | None:
    value = parse_int(query, name)
    if value is not None and value < 0:
        raise bad_request(f"{name}: must be greater than or equal to 0")
    return value


def container_of(pod: Mapping[str, Any], asked: str) -> str:
    """Return the container that is meant: the one asked for, the only one, or the annotated default."""
    spec = pod["spec"]
    names = [c["name"] for c in spec.get("containers", ())]
    initial = [c["name"] for c in spec.get("initContainers", ())]
    name = pod["metadata"]["name"]
    if asked:
        if asked not in (*names, *initial):
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    default = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container")
    if default in names:
        return str(default)
    if len(names) == 1:
        return str(names[0])
    choices = f"choose one of: [{' '.join(names)}]" + (
        f" or one of the init containers: [{' '.join(initial)}]" if initial else ""
    )
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")
