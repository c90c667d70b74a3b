"""Bring a workload to the cluster and wait until the gateway serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from pybrix.api.apps import Deployment
from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.api.names import MODEL_NAME
from pybrix.base.errors import UsageError
from pybrix.kube.errors import AlreadyExists
from pybrix.kube.interface import Client
from pybrix.local.modellists import ModelList
from pybrix.local.workloads import Workload

_POLL_S = 0.1
_READY_TIMEOUT_S = 180.0
_OTHERS_TIMEOUT_S = 30.0
_CRASHES = 2
# Waiting reasons that do not mend themselves.
_HOPELESS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})


async def bring(client: Client, workload: Workload) -> None:
    """Create the objects of a workload, or make those that are there as it says."""
    for wanted in (workload.deployment, workload.service):
        await _apply(client, wanted)


async def _apply(client: Client, wanted: Object) -> None:
    try:
        await client.create(wanted)
    except AlreadyExists:
        patch = {k: v for k, v in wanted.to_dict().items() if k == "spec"}
        await client.patch(type(wanted), wanted.key, patch)


async def wait_until_served(
    client: Client, workload: Workload, lists: Sequence[ModelList], report: Callable[[str], None]
) -> None:
    """Wait until all replicas are ready and every gateway lists the model; report progress when it changes.

    Raises:
        UsageError: a pod cannot start, or the time (180 s) is over; the message says what the pods wait for.
    """
    deadline_s = asyncio.get_running_loop().time() + _READY_TIMEOUT_S
    said = ""
    key = workload.deployment.key
    wanted = workload.deployment.spec.replicas or 0
    while True:
        deployment = await client.get(Deployment, key)
        status = deployment.status
        is_current = status.observed_generation >= deployment.metadata.generation
        if (
            is_current
            and status.updated_replicas >= wanted
            and status.available_replicas >= wanted
            and all([workload.model in await listed() for listed in lists])
        ):
            return
        pods = await client.list(Pod, key.namespace, label_selector=f"{MODEL_NAME}={workload.model}")
        trouble = find_trouble(pods.items)
        if any(reason in _HOPELESS for reason, _ in trouble):
            raise UsageError(f"{workload.model}: {describe(trouble)}", f"kubectl describe deployment {key.name}")
        if last_words := find_crash_loop(pods.items):
            raise UsageError(
                f"{workload.model}: its engine ends again and again: {last_words}",
                f"kubectl logs deployment/{key.name} --previous",
            )
        progress = f"{workload.model} {status.ready_replicas}/{wanted} ready"
        if trouble:
            progress += f", {describe(trouble)}"
        if progress != said and status.ready_replicas < wanted:
            report(progress)
            said = progress
        if asyncio.get_running_loop().time() > deadline_s:
            raise UsageError(
                f"{workload.model} was not ready within {_READY_TIMEOUT_S:.0f} s: {progress}",
                f"kubectl logs -l {MODEL_NAME}={workload.model}",
            )
        await asyncio.sleep(_POLL_S)


async def wait_for_others(
    client: Client, known: Collection[ObjectKey], done: Callable[[str, str], None], report: Callable[[str], None]
) -> list[str]:
    """Wait a while for models that were deployed before; return their names. One that is not ready is no error."""
    deadline_s = asyncio.get_running_loop().time() + _OTHERS_TIMEOUT_S
    waiting = {
        d.key: model
        for d in (await client.list(Deployment)).items
        if d.key not in known and d.spec.replicas != 0 and (model := _model_of(d))
    }
    models = list(dict.fromkeys(waiting.values()))
    while waiting and asyncio.get_running_loop().time() < deadline_s:
        for deployment in (await client.list(Deployment)).items:
            replicas = deployment.spec.replicas or 0
            if deployment.key in waiting and deployment.status.ready_replicas >= replicas:
                done(waiting.pop(deployment.key), f"{replicas}/{replicas} ready (deployed before)")
        await asyncio.sleep(_POLL_S)
    for key, model in waiting.items():
        report(f"{model} is not ready yet: kubectl describe deployment {key.name} -n {key.namespace}")
    return models


def _model_of(deployment: Deployment) -> str:
    metadata = deployment.spec.template.get("metadata") or {}
    return str((metadata.get("labels") or {}).get(MODEL_NAME, ""))


def find_trouble(pods: Sequence[Pod]) -> list[tuple[str, str]]:
    """Return reason and message of every container that waits for something other than its turn."""
    return [
        (status.state.waiting.reason, status.state.waiting.message)
        for pod in pods
        for status in pod.status.container_statuses
        if status.state.waiting and status.state.waiting.reason not in ("", "ContainerCreating", "PodInitializing")
    ]


def find_crash_loop(pods: Sequence[Pod]) -> str:
    """Return the last line of an engine that was started several times and never became ready; "" when none is so."""
    for pod in pods:
        for status in pod.status.container_statuses:
            waiting, ended = status.state.waiting, status.last_state.terminated
            if waiting and waiting.reason == "CrashLoopBackOff" and status.restart_count >= _CRASHES and ended:
                lines = ended.message.strip().splitlines()
                return lines[-1] if lines else f"exit code {ended.exit_code}"
    return ""


def describe(trouble: Sequence[tuple[str, str]]) -> str:
    """Say each trouble once."""
    return "; ".join(dict.fromkeys(f"{reason}: {message}" if message else reason for reason, message in trouble))
