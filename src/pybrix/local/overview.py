"""What runs and how it is, gathered from the state file, the brain and the Kubernetes API."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from pybrix.api.core import Pod
from pybrix.base.errors import PybrixError
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.asking import ask_socket
from pybrix.local.layout import Layout
from pybrix.local.state import UpState

_API_TIMEOUT_S = 3.0


class ProcessStatus(msgspec.Struct, rename="camel"):
    name: str
    pid: int
    running: bool


class ControllerStatus(msgspec.Struct, rename="camel"):
    """A controller: running, parked (its kind is unknown to the API server) or waiting."""

    name: str
    state: str


class ModelStatus(msgspec.Struct, rename="camel"):
    """A model as the brain sees it: endpoints that are ready, requests in flight on them."""

    model: str
    namespace: str
    ready: int
    in_flight: int
    absent: list[str] = []
    config_problems: list[str] = []


class PodSummary(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    status: str
    ready: bool
    restarts: int
    ip: str


class Overview(msgspec.Struct, rename="camel"):
    """Everything `pybrix status` prints. A part that did not answer says so in `problems`."""

    gateway_url: str
    kubeconfig: str
    ready: bool
    supervised: bool
    processes: list[ProcessStatus]
    controllers: list[ControllerStatus] = []
    models: list[ModelStatus] = []
    pods: list[PodSummary] = []
    problems: list[str] = []


async def gather_overview(layout: Layout, state: UpState) -> Overview:
    """Ask every part; what does not answer is reported, not raised."""
    overview = Overview(
        gateway_url=state.gateway_url,
        kubeconfig=state.kubeconfig,
        ready=state.is_ready,
        supervised=state.supervisor.find() is not None,
        processes=[
            ProcessStatus(name, record.pid, record.find() is not None) for name, record in state.processes.items()
        ],
    )
    if not overview.supervised:
        overview.problems.append(_unwatched(layout, any(process.running for process in overview.processes)))
    try:
        states = (await ask_socket(layout.controllers_socket, "/readyz"))["controllers"]
        overview.controllers = [ControllerStatus(name, state) for name, state in states.items()]
    except TimeoutError:
        overview.problems.append("the controllers do not answer in time")
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError, KeyError):
        overview.problems.append(f"the controllers do not answer: see {layout.logs_dir / 'controllers.log'}")
    try:
        view = await ask_socket(layout.gateway(1).brain_socket, "/debug/view", raise_for_status=True)
        overview.models = [_model(entry) for entry in view["models"]]
    except TimeoutError:
        overview.problems.append("the brain does not answer in time")
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError, KeyError):
        overview.problems.append(f"the brain does not answer: see {layout.logs_dir / 'brain.log'}")
    try:
        async with HttpClient(load_kubeconfig(layout.kubeconfig), request_timeout_s=_API_TIMEOUT_S) as client:
            overview.pods = [_pod(pod) for pod in (await client.list(Pod)).items]
    except PybrixError:
        overview.problems.append(f"the Kubernetes API does not answer: see {layout.logs_dir / 'cluster.log'}")
    return overview


def _unwatched(layout: Layout, has_processes: bool) -> str:
    if not has_processes:
        return f"none of these processes runs any more: start them with `{layout.command('up')}`"
    return (
        f"nobody watches over these processes: `{layout.command('upgrade --only supervisor')}` does that again and "
        f"leaves them as they are; `{layout.command('down')}` stops them"
    )


def _model(entry: dict[str, Any]) -> ModelStatus:
    return ModelStatus(
        model=entry["model"],
        namespace=entry["namespace"],
        ready=len(entry["endpoints"]),
        in_flight=sum(endpoint["requestsInFlight"] for endpoint in entry["endpoints"]),
        absent=[f"{pod['pod']}: {pod['why']}" for pod in entry["absent"]],
        config_problems=list((entry.get("config") or {}).get("problems", ())),
    )


def _pod(pod: Pod) -> PodSummary:
    return PodSummary(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        status=_status(pod),
        ready=pod.is_ready,
        restarts=sum(status.restart_count for status in pod.status.container_statuses),
        ip=pod.status.pod_ip,
    )


def _status(pod: Pod) -> str:
    """Return what `kubectl get pods` shows: why a container waits or how it ended, else the phase."""
    if pod.metadata.is_terminating:
        return "Terminating"
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if status.state.waiting and status.state.waiting.reason:
            return status.state.waiting.reason
        if status.state.terminated and status.state.terminated.exit_code:
            return status.state.terminated.reason or "Error"
    return pod.status.reason or pod.status.phase
