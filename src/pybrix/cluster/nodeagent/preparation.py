"""Say what exactly is run for a container, or why it cannot be. Pure but for what volumes look like on disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pybrix.api.core import ConfigMap, Container, Pod, Secret
from pybrix.cluster.images import ImageError, Program, resolve
from pybrix.cluster.nodeagent.env import ConfigError, expand_all, render_environment
from pybrix.cluster.nodeagent.preload import Preload
from pybrix.cluster.nodeagent.seen import Blocked
from pybrix.cluster.nodeagent.shim import POD_IP_VARIABLE, is_static
from pybrix.cluster.nodeagent.volumes import (
    Mount,
    Sources,
    VolumeError,
    make_sub_paths,
    render_mount_script,
    resolve_mounts,
    write_volume,
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers to every container."""

    base_env: Mapping[str, str]
    """What containers inherit: PATH, HOME and their like."""
    programs: Mapping[str, Program]
    """The table of images."""
    host_ip: str = "127.0.0.1"
    """Address of the node; 127.0.0.1."""
    shim: Preload | None = None
    """The library that turns wildcard binds; None."""
    shim_problem: str = "this machine has no C compiler"
    """Why there is no shim where there is none."""
    namespace_command: tuple[str, ...] = ()
    """Command that runs the rest in a mount namespace of its own; empty: the machine allows none."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """What the node has of each resource."""


@dataclass(frozen=True, slots=True)
class Launchable:
    """A container ready to be started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    work_dir: Path
    image_id: str
    namespace_command: tuple[str, ...] = ()
    mount_script: str = ""
    is_told_by_log: bool = False
    start_error: str = ""
    """Why the program cannot be executed; such a start fails at once with exit code 128. None."""
    warnings: tuple[str, ...] = ()

    def wrap(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command that runs `argv` with the container's view of the file system."""
        if not self.mount_script:
            return argv
        return (*self.namespace_command, "/bin/sh", "-c", self.mount_script, "pybrix-mounts", *argv)


def prepare(
    pod: Pod,
    container: Container,
    machine: Machine,
    *,
    pod_ip: str,
    pod_dir: Path,
    configmaps: Mapping[str, ConfigMap],
    secrets: Mapping[str, Secret],
) -> Launchable | Blocked:
    """Return what to run for a container, after writing its volumes; or the reason of its waiting state.

    Args:
        configmaps: those of the pod's namespace by name.
        secrets: likewise.
    """
    probes = (container.startup_probe, container.readiness_probe, container.liveness_probe)
    if any(p is not None and p.grpc is not None for p in probes):
        return Blocked("CreateContainerConfigError", "this node has no gRPC probes; use httpGet, tcpSocket or exec")
    try:
        env = dict(machine.base_env) | {"HOSTNAME": pod.spec.hostname or pod.metadata.name}
        asked = render_environment(
            pod,
            container,
            pod_ip=pod_ip,
            host_ip=machine.host_ip,
            configmaps=configmaps,
            secrets=secrets,
            capacity=machine.capacity,
        )
        command, args = expand_all(container.command, asked), expand_all(container.args, asked)
        launch = resolve(machine.programs, container.image, command, args)
        sources = Sources(configmaps, secrets, pod_ip, machine.host_ip, machine.capacity)
        mounts = _mounts(pod, container, machine, sources, pod_dir)
    except ImageError as error:
        return Blocked(error.reason, error.message)
    except VolumeError as error:
        return Blocked("CreateContainerConfigError", f"MountVolume.SetUp failed: {error}")
    except ConfigError as error:
        return Blocked("CreateContainerConfigError", str(error))
    env |= asked
    env[POD_IP_VARIABLE] = pod_ip
    argv, warnings = launch.argv, []
    program = shutil.which(argv[0], path=env.get("PATH"))
    problem = machine.shim.problem(m.target for m in mounts) if machine.shim is not None else machine.shim_problem
    if machine.shim is not None and not problem:
        env["LD_PRELOAD"] = " ".join(filter(None, (str(machine.shim.path), env.get("LD_PRELOAD"))))
        if program is not None and is_static(Path(program)):
            problem = f"{program} is a static binary"
    if problem and launch.bind_args:
        argv = (*argv, *(a.format(pod_ip=pod_ip) for a in launch.bind_args))
    elif problem:
        warnings.append(
            f"{problem}, so its wildcard binds are not turned to the pod IP {pod_ip}: let it listen on $(POD_IP)"
        )
    work_dir = Path(container.working_dir) if container.working_dir else pod_dir / ".work" / container.name
    start_error = ""
    is_in_mount = any(Path(argv[0]).is_relative_to(m.target) for m in mounts)
    if program is None and not is_in_mount:
        start_error = f'exec: "{argv[0]}": executable file not found in $PATH'
    if not container.working_dir:
        work_dir.mkdir(parents=True, exist_ok=True)
    elif not work_dir.is_dir() and not any(work_dir.is_relative_to(m.target) for m in mounts):
        start_error = f"workingDir {work_dir} is no directory of this machine"
    return Launchable(
        argv=argv,
        env=env,
        work_dir=work_dir,
        image_id=launch.image_id,
        namespace_command=machine.namespace_command,
        mount_script=render_mount_script(mounts, pod_dir / ".mounts" / container.name) if mounts else "",
        is_told_by_log=container.termination_message_policy == "FallbackToLogsOnError",
        start_error=start_error,
        warnings=tuple(warnings),
    )


def _mounts(pod: Pod, container: Container, machine: Machine, sources: Sources, pod_dir: Path) -> tuple[Mount, ...]:
    if not container.volume_mounts:
        return ()
    if not machine.namespace_command:
        paths = ", ".join(m.mount_path for m in container.volume_mounts)
        raise VolumeError(f"this machine allows no mount namespaces (unshare), so {paths} cannot be mounted")
    names = {m.name for m in container.volume_mounts}
    used = [v for v in pod.spec.volumes if v.name in names]
    places = {v.name: write_volume(v, pod, sources, pod_dir / ".volumes" / v.name) for v in used}
    files_only = frozenset(v.name for v in used if v.empty_dir is None and v.host_path is None)
    mounts = resolve_mounts(container, places, files_only)
    make_sub_paths(mounts)
    return mounts
