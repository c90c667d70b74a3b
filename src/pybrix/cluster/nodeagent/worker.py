"""One task per pod UID: see, plan, write the status, act; woken by watches, exits, probes and its own timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from signal import Signals
from typing import Any

import structlog

from pybrix.api.core import Container, LifecycleHandler, Pod
from pybrix.api.identity import Uid
from pybrix.base.errors import PybrixError
from pybrix.cluster.nodeagent.addresses import AddressesExhausted
from pybrix.cluster.nodeagent.execs import RunningCommand, run_command
from pybrix.cluster.nodeagent.health import HealthContext, RunHealth, run_handler
from pybrix.cluster.nodeagent.plan import Action, BeginStop, DeletePod, Forget, Note, Signal, Start, plan
from pybrix.cluster.nodeagent.podfiles import PodFiles
from pybrix.cluster.nodeagent.preparation import Launchable
from pybrix.cluster.nodeagent.probes import execute
from pybrix.cluster.nodeagent.processes import MARKER, visitor_mark
from pybrix.cluster.nodeagent.runner import ContainerProcess
from pybrix.cluster.nodeagent.seen import Blocked, ContainerSeen, Observed, Run, Stop
from pybrix.cluster.nodeagent.standing import Step, standings
from pybrix.cluster.nodeagent.status import render_status
from pybrix.cluster.nodeagent.surroundings import Surroundings
from pybrix.cluster.nodeagent.volumes import (
    refuse_names,
    remove_tree,
)
from pybrix.kube.errors import BadRequest, Conflict, KubeError, NotFound
from pybrix.kube.patch import diff_merge_patch

_log = structlog.get_logger(__name__)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 10.0
API_WAIT_S = 10.0
"""How long a worker waits for the API server before it goes on with its processes."""
STOPPING_API_WAIT_S = 1.0
"""The same while the node stops."""


@dataclass(slots=True)
class _Live:
    """What the worker holds of one container."""

    health: RunHealth
    process: ContainerProcess | None = None
    previous: Run | None = None
    stop: Stop | None = None
    launch: Launchable | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def run(self) -> Run | None:
        return self.process.run if self.process is not None else None

    def cancel_tasks(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()


class PodWorker:
    """Bring one pod's processes to what its object says, and its status to what its processes do."""

    def __init__(self, pod: Pod, around: Surroundings, *, is_object_gone: bool = False) -> None:
        self.uid: Uid = pod.uid
        self.is_over = False
        self._pod = pod
        self._around = around
        self._is_object_gone = is_object_gone
        self._live: dict[str, _Live] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._notes: frozenset[Note] = frozenset()
        self._files = PodFiles(pod.uid, around)
        self._group: asyncio.TaskGroup | None = None
        self._retry_s = 0.0
        self._call: asyncio.Timeout | None = None
        self._log = _log.bind(pod=str(pod.key), uid=pod.uid)

    @property
    def pod(self) -> Pod:
        return self._pod

    @property
    def is_any_live(self) -> bool:
        return any(it.run is not None and it.run.is_live for it in self._live.values())

    def update(self, pod: Pod | None) -> None:
        """Take the newest object; None: it is gone."""
        if pod is None:
            self._is_object_gone = True
        else:
            before, now = self._pod.metadata, pod.metadata
            if (before.labels, before.annotations) != (now.labels, now.annotations):
                self._files.mark_old()
            self._pod = pod
        self._wake.set()

    def source_changed(self) -> None:
        """Look again: a ConfigMap, Secret or claim of the namespace changed."""
        self._files.mark_old()
        self._wake.set()

    async def run(self) -> None:
        """Work until the pod is gone and buried. On cancellation its processes go on for the next agent."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._retried(self._adopt)
                while not self.is_over:
                    self._wake.clear()
                    look_at = await self._guarded_pass()
                    if not self.is_over:
                        await self._sleep_until(look_at)
                self._cancel_all()
        finally:
            self.is_over = True
            self._idle.set()
            for it in self._live.values():
                if it.process is not None:
                    it.process.close()

    async def wait_stopped(self) -> None:
        """Wait until no process of the pod lives and its status says so."""
        while not self.is_over and (self.is_any_live or not self._idle.is_set()):
            self._idle.clear()
            self._wake.set()
            await self._idle.wait()

    async def _retried(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                return await step()
            except (PybrixError, OSError) as error:
                self._log.warning("retrying", step=step.__name__, error=str(error))
                await asyncio.sleep(self._next_retry_s())

    def _next_retry_s(self) -> float:
        self._retry_s = min(LAST_RETRY_S, max(FIRST_RETRY_S, self._retry_s * 2))
        return self._retry_s

    async def _guarded_pass(self) -> datetime | None:
        try:
            look_at = await self._pass()
        except Exception:  # noqa: BLE001
            # The worker is this pod's boundary: another pod must not suffer, and the next pass sees everything anew.
            self._log.exception("the pass failed")
            return self._around.clock.now() + timedelta(seconds=self._next_retry_s())
        finally:
            self._idle.set()
        return look_at

    async def _sleep_until(self, moment: datetime | None) -> None:
        if moment is None:
            await self._wake.wait()
            return
        delay_s = (moment - self._around.clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, delay_s)):
                await self._wake.wait()
        except TimeoutError:
            return

    # Seeing

    async def _adopt(self) -> None:
        """Find the runs of an earlier agent."""
        if not self._is_object_gone and refuse_names(self._pod):
            return
        known = {s.name: s for s in (*self._pod.status.container_statuses, *self._pod.status.init_container_statuses)}
        for container in (*self._pod.spec.init_containers, *self._pod.spec.containers):
            process, previous = await self._around.runner.adopt(
                self.uid, container.name, self._exit_callback(container.name)
            )
            run, status = process.run if process is not None else None, known.get(container.name)
            if run is None or not run.is_live:
                self._live[container.name] = _Live(RunHealth(container), process, previous)
                continue
            self._log.info("adopted", container=container.name, restart=run.restart)
            assert process is not None
            self._around.log_clock.follow(process.log_path)
            self._files.keep_hosts(self._pod)
            same = status if status is not None and status.container_id == run.container_id else None
            it = self._live[container.name] = _Live(RunHealth.resumed(container, same), process, previous)
            if not self._is_object_gone and not self._pod.metadata.is_terminating:
                self._follow_health(container, it)

    def _exit_callback(self, name: str) -> Callable[[], None]:
        def on_exit() -> None:
            it = self._live[name]
            it.cancel_tasks()
            if it.process is not None:
                self._around.log_clock.finish(it.process.log_path)
            self._wake.set()

        return on_exit

    def _observe(self) -> Observed:
        seen = Observed(
            pod=self._pod,
            pod_ip=self._around.addresses.get(self.uid) or "",
            host_ip=self._around.machine.host_ip,
            containers={
                name: ContainerSeen(it.run, it.previous, it.health.health, it.stop) for name, it in self._live.items()
            },
            is_object_gone=self._is_object_gone,
            node_stop_grace_s=self._around.node_stop_grace_s,
            problem="" if self._is_object_gone else refuse_names(self._pod),
        )
        if seen.is_leaving or seen.problem:
            return seen
        if not seen.pod_ip:
            try:
                seen = replace(seen, pod_ip=self._around.addresses.address(self.uid))
            except AddressesExhausted as error:
                return replace(seen, containers=self._all_blocked(str(error)))
        return self._with_blockers(seen)

    def _all_blocked(self, message: str) -> dict[str, ContainerSeen]:
        return {name: ContainerSeen(blocked=Blocked("FailedCreatePodSandBox", message)) for name in self._live}

    def _with_blockers(self, seen: Observed) -> Observed:
        """Prepare the containers that are to be started; those that cannot be are blocked, with the reason."""
        found = standings(seen, self._around.clock.now())
        containers = dict(seen.containers)
        for container in (*seen.pod.spec.init_containers, *seen.pod.spec.containers):
            if found[container.name].step != Step.START:
                continue
            prepared = self._files.prepare(self._pod, container)
            if isinstance(prepared, Blocked):
                containers[container.name] = replace(containers[container.name], blocked=prepared)
            else:
                self._live[container.name].launch = prepared
        return replace(seen, containers=containers)

    # Acting

    async def _pass(self) -> datetime | None:
        """Act until nothing is left to do now; return when to look again."""
        renew_at = await self._renew_tokens()
        if not (self._is_object_gone or self._pod.metadata.is_terminating):
            self._files.renew(self._pod)
        while True:
            seen, now = self._observe(), self._around.clock.now()
            planned = plan(seen, now)
            self._emit_new(planned.notes)
            look_at = min(filter(None, (planned.next_look_at, renew_at)), default=None)
            if planned.is_status_first or not planned.actions:
                is_written = await self._write_status(seen)
                if not is_written:
                    retry_at = now + timedelta(seconds=self._next_retry_s())
                    look_at = min(look_at or retry_at, retry_at)
                else:
                    self._retry_s = 0.0
            if not planned.actions:
                return look_at
            for action in planned.actions:
                if not await self._apply(action):
                    return now + timedelta(seconds=self._next_retry_s())
            if self.is_over:
                return None

    async def _renew_tokens(self) -> datetime | None:
        """Have tokens that last; return when to look again, None when the pod needs none."""
        pod, now, source = self._pod, self._around.clock.now(), self._around.tokens
        is_leaving = self._is_object_gone or pod.metadata.is_terminating or pod.is_finished
        if source is None or is_leaving or self._around.node_stop_grace_s is not None:
            return None
        due = self._files.tokens.due_at(pod, now)
        if due is None or now < due:
            return due
        try:
            async with self._api_wait():
                await self._files.tokens.renew(pod, now, source)
        except (KubeError, TimeoutError) as error:
            self._log.warning("no token of the service account", error=str(error) or "no answer")
            return now + timedelta(seconds=self._next_retry_s())
        self._files.mark_old()
        return self._files.tokens.due_at(pod, now)

    def _emit_new(self, notes: tuple[Note, ...]) -> None:
        for note in notes:
            if note not in self._notes:
                self._around.events.emit(self._pod, note.reason, note.message, is_warning=True)
        self._notes = frozenset(notes)

    async def _write_status(self, seen: Observed) -> bool:
        """Write the status where it differs; False: the API server did not take it, try again later."""
        for _ in range(5):
            if self._is_object_gone:
                return True
            status = render_status(replace(seen, pod=self._pod), self._around.clock.now())
            before, after = self._pod.to_dict().get("status", {}), Pod(status=status).to_dict().get("status", {})
            patch = diff_merge_patch(before, after)
            if not patch:
                return True
            key = self._pod.key
            try:
                async with self._api_wait():
                    self._pod = await self._around.client.patch(
                        Pod,
                        key,
                        {"status": patch},
                        subresource="status",
                        resource_version=self._pod.metadata.resource_version,
                        field_manager="pybrix-nodeagent",
                    )
                return True
            except NotFound:
                self._is_object_gone = True
            except Conflict:
                if not await self._read_again():
                    return False
            except (KubeError, TimeoutError) as error:
                self._log.warning("the status could not be written", error=str(error) or "no answer")
                return False
        return False

    @asynccontextmanager
    async def _api_wait(self) -> AsyncIterator[None]:
        """Bound a call to the API server, which else might keep processes from being signalled. Raises TimeoutError."""
        is_stopping = self._around.node_stop_grace_s is not None
        try:
            async with asyncio.timeout(STOPPING_API_WAIT_S if is_stopping else API_WAIT_S) as self._call:
                yield
        finally:
            self._call = None

    def hurry(self) -> None:
        """Let the call that is under way end soon: the node stops."""
        if self._call is not None and not self._call.expired():
            soon = asyncio.get_running_loop().time() + STOPPING_API_WAIT_S
            self._call.reschedule(min(self._call.when() or soon, soon))

    async def _read_again(self) -> bool:
        """Read the pod's object; False: the API server gives none, try again later."""
        try:
            async with self._api_wait():
                fresh = await self._around.client.get(Pod, self._pod.key)
        except NotFound:
            self._is_object_gone = True
            return True
        except (KubeError, TimeoutError) as error:
            self._log.warning("the pod could not be read", error=str(error) or "no answer")
            return False
        if fresh.uid != self.uid:
            self._is_object_gone = True
        else:
            self._pod = fresh
        # Something else than the status may have changed too.
        self._wake.set()
        return True

    async def _apply(self, action: Action) -> bool:
        self._log.info(type(action).__name__, container=_container_name(action), why=action.why)
        match action:
            case Start():
                self._start(action)
            case BeginStop():
                self._begin_stop(action)
            case Signal():
                self._signal(action)
            case DeletePod():
                return await self._delete_pod()
            case Forget():
                self._files.drop_hosts()
                await asyncio.to_thread(remove_tree, self._around.runner.pod_dir(self.uid))
                self._around.addresses.release(self.uid)
                self.is_over = True
        return True

    def _start(self, action: Start) -> None:
        name, it = action.container.name, self._live[action.container.name]
        launch = it.launch
        assert launch is not None  # prepared by the observation that led to this action
        fresh = self._live[name] = _Live(RunHealth(action.container), previous=it.run, launch=launch)
        fresh.process = self._around.runner.start(
            self.uid, name, action.restart, action.backoff_s, launch, self._exit_callback(name)
        )
        for note in launch.warnings:
            self._around.events.emit(self._pod, note.reason, f"Container {name}: {note.message}", is_warning=True)
        if fresh.process.run.exit is not None:
            self._around.events.emit(self._pod, "Failed", f"Error: {launch.start_error}", is_warning=True)
            return
        self._around.log_clock.follow(fresh.process.log_path)
        self._around.events.emit(self._pod, "Started", f"Started container {name}")
        self._follow_health(action.container, fresh)

    def _begin_stop(self, action: BeginStop) -> None:
        it = self._live[action.container.name]
        it.cancel_tasks()
        it.stop = Stop(action.requested_at, action.grace_s, action.why)
        self._around.events.emit(self._pod, "Killing", f"Stopping container {action.container.name}: {action.why}")
        lifecycle = action.container.lifecycle
        if action.is_pre_stop_skipped or lifecycle is None or lifecycle.pre_stop is None or action.grace_s <= 0:
            it.stop = replace(it.stop, is_pre_stop_over=True)
        else:
            it.tasks.append(self._task(self._pre_stop(action.container, it, lifecycle.pre_stop, action.grace_s)))

    def _signal(self, action: Signal) -> None:
        it, now = self._live[action.container.name], self._around.clock.now()
        assert it.stop is not None
        assert it.process is not None
        it.cancel_tasks()
        if action.is_interrupting:
            it.process.mark_interrupted()
        it.process.send(Signals[action.ending.value])
        if action.ending == "SIGTERM":
            it.stop = replace(it.stop, term_at=now)
        else:
            it.stop = replace(it.stop, kill_at=now)

    async def _delete_pod(self) -> bool:
        try:
            async with self._api_wait():
                await self._around.client.delete(Pod, self._pod.key, uid=self.uid, grace_period_seconds=0)
        except (NotFound, Conflict):
            pass  # gone already, or another pod has its name: both are what was wanted
        except (KubeError, TimeoutError) as error:
            self._log.warning("the pod could not be deleted", error=str(error) or "no answer")
            return False
        self._is_object_gone = True
        return True

    # Hooks and probes

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001
            self._log.exception("a probe or hook failed unexpectedly")

    def _cancel_all(self) -> None:
        for it in self._live.values():
            it.cancel_tasks()

    async def _execute(self, container: Container, argv: tuple[str, ...], timeout_s: float) -> tuple[int, str]:
        inside = self._inside(container)
        if isinstance(inside, Blocked):
            return 126, inside.message
        launch, env, cwd = inside
        return await execute(launch.wrap(argv), env=env, cwd=str(cwd), timeout_s=timeout_s)

    def _inside(self, container: Container) -> tuple[Launchable, dict[str, str], Path] | Blocked:
        """Return how a command beside a container's program is run: its view, environment and directory."""
        it = self._live[container.name]
        if it.launch is None:
            prepared = self._files.prepare(self._pod, container)
            if isinstance(prepared, Blocked):
                return prepared
            it.launch = prepared
        env = dict(it.launch.env)
        if it.run is not None:
            env[MARKER] = visitor_mark(it.run.container_id)
        return it.launch, env, it.launch.work_dir if it.launch.work_dir.is_dir() else Path("/")

    async def run_command(
        self, name: str, command: tuple[str, ...], *, has_input: bool, has_terminal: bool
    ) -> RunningCommand:
        """Run a command in a container that runs; it ends with it at the latest.

        Raises:
            BadRequest: the container does not run, or the command cannot be started.
        """
        launch, env, cwd = self.visit(name)
        try:
            return await run_command(
                launch.wrap(command), env=env, cwd=cwd, has_input=has_input, has_terminal=has_terminal
            )
        except OSError as error:
            raise BadRequest(400, "BadRequest", f"the command cannot be started: {error}") from error

    def visit(self, name: str) -> tuple[Launchable, dict[str, str], Path]:
        """Return how a command in a container that runs is run: its view, environment and directory.

        Raises:
            BadRequest: the container does not run.
        """
        it = self._live.get(name)
        containers = (*self._pod.spec.init_containers, *self._pod.spec.containers)
        container = next((c for c in containers if c.name == name), None)
        if it is None or container is None or it.run is None or not it.run.is_live:
            raise BadRequest(400, "BadRequest", f'container "{name}" of pod {self._pod.metadata.name} is not running')
        inside = self._inside(container)
        if isinstance(inside, Blocked):
            raise BadRequest(400, "BadRequest", inside.message)
        return inside

    def _context(self, container: Container) -> HealthContext:
        async def run_command(argv: tuple[str, ...], timeout_s: float) -> tuple[int, str]:
            return await self._execute(container, argv, timeout_s)

        return HealthContext(
            container=container,
            pod_ip=self._around.addresses.get(self.uid) or "",
            prober=self._around.prober,
            execute=run_command,
            emit=lambda reason, message: self._around.events.emit(self._pod, reason, message, is_warning=True),
            changed=self._wake.set,
        )

    async def _pre_stop(self, container: Container, it: _Live, handler: LifecycleHandler, grace_s: float) -> None:
        assert it.stop is not None
        used_s = (self._around.clock.now() - it.stop.requested_at).total_seconds()
        try:
            outcome = await run_handler(handler, self._context(container), max(0.0, grace_s - used_s))
            if not outcome.is_success:
                message = f"PreStopHook failed: {outcome.detail}"
                self._around.events.emit(self._pod, "FailedPreStopHook", message, is_warning=True)
        finally:
            it.stop = replace(it.stop, is_pre_stop_over=True)
            self._wake.set()

    def _follow_health(self, container: Container, it: _Live) -> None:
        assert it.run is not None
        running_s = (self._around.clock.now() - it.run.started_at).total_seconds()
        it.tasks.append(self._task(it.health.follow(self._context(container), running_s=running_s)))


def _container_name(action: Action) -> str:
    return action.container.name if isinstance(action, Start | BeginStop | Signal) else ""
