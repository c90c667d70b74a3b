"""What runs and how it is, gathered from the state file, the brain and the Kubernetes API."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from pybrix.api.core import Pod
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.layout import Layout
from pybrix.local.state import UpState

_TIMEOUT = aiohttp.ClientTimeout(total=2)


class ProcessStatus(msgspec.Struct, rename="camel"):
    name: str
    pid: int
    running: bool


class ModelStatus(msgspec.Struct, rename="camel"):
    """A model as the brain sees it: endpoints that are ready, requests in flight on them."""

    model: str
    namespace: str
    ready: int
    in_flight: int
    absent: list[str] = []


class PodSummary(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    phase: str
    ready: bool
    restarts: int
    ip: str


class Overview(msgspec.Struct, rename="camel"):
    """Everything `pybrix status` prints. A part that did not answer says so in `problems`."""

    gateway_url: str
    kubeconfig: str
    ready: bool
    processes: list[ProcessStatus]
    models: list[ModelStatus] = []
    pods: list[PodSummary] = []
    problems: list[str] = []


async def gather_overview(layout: Layout, state: UpState) -> Overview:
    """Ask every part; what does not answer is reported, not raised."""
    overview = Overview(
        gateway_url=state.gateway_url,
        kubeconfig=state.kubeconfig,
        ready=state.is_ready,
        processes=[
            ProcessStatus(name, record.pid, record.find() is not None) for name, record in state.processes.items()
        ],
    )
    try:
        overview.models = [_model(entry) for entry in (await _brain_view(layout))["models"]]
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, KeyError) as err:
        overview.problems.append(f"the brain does not answer: {err!r}")
    client = HttpClient(load_kubeconfig(layout.kubeconfig))
    try:
        overview.pods = [_pod(pod) for pod in (await client.list(Pod)).items]
    except KubeError as err:
        overview.problems.append(f"the Kubernetes API does not answer: {err}")
    finally:
        await client.aclose()
    return overview


async def _brain_view(layout: Layout) -> dict[str, Any]:
    connector = aiohttp.UnixConnector(str(layout.run_dir / "brain-admin.sock"))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
        session.get("http://brain/debug/view", raise_for_status=True) as response,
    ):
        document: dict[str, Any] = msgspec.json.decode(await response.read())
        return document


def _model(entry: dict[str, Any]) -> ModelStatus:
    return ModelStatus(
        model=entry["model"],
        namespace=entry["namespace"],
        ready=len(entry["endpoints"]),
        in_flight=sum(endpoint["requestsInFlight"] for endpoint in entry["endpoints"]),
        absent=[f"{pod['pod']}: {pod['why']}" for pod in entry["absent"]],
    )


def _pod(pod: Pod) -> PodSummary:
    return PodSummary(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        phase="Terminating" if pod.metadata.is_terminating else pod.status.phase,
        ready=pod.is_ready,
        restarts=sum(status.restart_count for status in pod.status.container_statuses),
        ip=pod.status.pod_ip,
    )
