"""Say what exactly is run for a container, or why it cannot be. Pure but for what volumes look like on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pybrix.api.core import Container, Pod, VolumeMount
from pybrix.cluster.images import ImageError, Program, resolve
from pybrix.cluster.nodeagent.env import ConfigError, expand_all, render_environment
from pybrix.cluster.nodeagent.hosts import HOSTS_FILE
from pybrix.cluster.nodeagent.names import host_name
from pybrix.cluster.nodeagent.plan import Note
from pybrix.cluster.nodeagent.preload import Preload
from pybrix.cluster.nodeagent.seen import Blocked
from pybrix.cluster.nodeagent.shim import POD_IP_VARIABLE, is_static
from pybrix.cluster.nodeagent.volumes import (
    Mount,
    Sources,
    VolumeError,
    is_read_only,
    make_sub_paths,
    render_mount_script,
    resolve_mounts,
    volume_dir,
    write_volume,
)
from pybrix.kube.kubeconfig import SERVICE_ACCOUNT_DIR, SERVICE_ACCOUNT_DIR_VARIABLE


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
    can_mount_in_dev: bool = False
    """Whether a container can have files of its own in /dev; False."""
    capacity: Mapping[str, str] = field(default_factory=dict)
    """What the node has of each resource."""
    api_address: tuple[str, int] | None = None
    """Host and port by which pods reach the API server; None: they do not."""
    name_library: Path | None = None
    """libnss_wrapper, by which programs resolve names where there are no mount namespaces; None."""


@dataclass(frozen=True, slots=True)
class Launchable:
    """A container ready to be started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    work_dir: Path
    image_id: str
    namespace_command: tuple[str, ...] = ()
    mount_script: str = ""
    """Makes the view, then runs its arguments; needs the namespaces. Empty: the machine's own view."""
    message_link: Path | None = None
    """What is mounted at `terminationMessagePath`: to be a link to the run's own file. None: nothing is."""
    is_told_by_log: bool = False
    start_error: str = ""
    """Why the program cannot be executed; such a start fails at once with exit code 128. None."""
    warnings: tuple[Note, ...] = ()

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
    pod_dir: Path,
    sources: Sources,
) -> Launchable | Blocked:
    """Return what to run for a container, after writing its volumes; or the reason of its waiting state.

    Args:
        sources: what its variables and volumes are filled from.
    """
    try:
        env = dict(machine.base_env) | dict(sources.link_variables) | {"HOSTNAME": host_name(pod)} | _api_env(machine)
        asked = render_environment(
            pod,
            container,
            pod_ip=sources.pod_ip,
            host_ip=machine.host_ip,
            configmaps=sources.configmaps,
            secrets=sources.secrets,
            capacity=machine.capacity,
        )
        command, args = expand_all(container.command, asked), expand_all(container.args, asked)
        launch = resolve(machine.programs, container.image, command, args)
        mounts = _mounts(pod, container, machine, sources, pod_dir)
        message_path = _message_path(container, machine)
    except ImageError as error:
        return Blocked(error.reason, error.message)
    except VolumeError as error:
        return Blocked("CreateContainerConfigError", f"MountVolume.SetUp failed: {error}")
    except ConfigError as error:
        return Blocked("CreateContainerConfigError", str(error))
    env |= asked
    pod_ip = sources.pod_ip
    env[POD_IP_VARIABLE] = pod_ip
    if launch.needs and shutil.which(launch.needs, path=machine.base_env.get("PATH")) is None:
        text = f'image "{container.image}" stands for {launch.needs}, which this machine does not have: {launch.remedy}'
        return Blocked("ErrImagePull", text)
    argv, warnings = launch.argv, list[Note]()
    if mounts and not machine.namespace_command:
        # Nothing but the service account: see _mounts.
        env[SERVICE_ACCOUNT_DIR_VARIABLE] = str(mounts[0].source)
        text = (
            f"this machine allows no mount namespaces: the service account is in {mounts[0].source} "
            f"(${SERVICE_ACCOUNT_DIR_VARIABLE}), not in {SERVICE_ACCOUNT_DIR}"
        )
        warnings.append(Note("ServiceAccountElsewhere", text))
        mounts = ()
    if sources.hosts is not None:
        hosts = Mount(sources.hosts, PurePosixPath(HOSTS_FILE))
        if machine.namespace_command and all(m.target != hosts.target for m in mounts):
            # After what may be mounted above it.
            mounts = tuple(sorted((hosts, *mounts), key=lambda m: len(m.target.parts)))
        elif not machine.namespace_command:
            warnings += _names_by_library(machine, sources.hosts, env)
    message_link = None
    if message_path is not None and all(m.target != message_path for m in mounts):
        message_link = pod_dir / ".messages" / container.name
        message_link.parent.mkdir(parents=True, exist_ok=True)
        message_link.touch()
        mounts = tuple(sorted((*mounts, Mount(message_link, message_path)), key=lambda m: len(m.target.parts)))
    program = shutil.which(argv[0], path=env.get("PATH"))
    problem = machine.shim.problem(m.target for m in mounts) if machine.shim is not None else machine.shim_problem
    if machine.shim is not None and not problem:
        env["LD_PRELOAD"] = " ".join(filter(None, (str(machine.shim.path), env.get("LD_PRELOAD"))))
        if program is not None and is_static(Path(program)):
            problem = f"{program} is a static binary"
    if problem and launch.bind_args:
        argv = (*argv, *(a.format(pod_ip=pod_ip) for a in launch.bind_args))
    elif problem:
        text = f"{problem}, so its wildcard binds are not turned to the pod IP {pod_ip}: let it listen on $(POD_IP)"
        warnings.append(Note("WildcardBind", text))
    work_dir = Path(container.working_dir) if container.working_dir else pod_dir / ".work" / container.name
    start_error = _start_error(argv[0], program, work_dir, mounts)
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
        mount_script=render_mount_script(mounts, pod_dir / ".mounts" / container.name, host=_host(pod, machine))
        if mounts
        else "",
        message_link=message_link,
        is_told_by_log=container.termination_message_policy == "FallbackToLogsOnError",
        start_error=start_error,
        warnings=tuple(warnings),
    )


def _start_error(command: str, program: str | None, work_dir: Path, mounts: Sequence[Mount]) -> str:
    """Return why a command cannot be executed; nothing when it can, or when only the container's view can tell."""
    if "/" not in command:
        return "" if program is not None else f'exec: "{command}": executable file not found in $PATH'
    path = Path(os.path.normpath(work_dir / command))
    mount = next((m for m in reversed(mounts) if path.is_relative_to(m.target)), None)
    if mount is not None:
        inside = path.relative_to(mount.target)
        path = mount.source / inside
        if os.path.realpath(path) != str(Path(os.path.realpath(mount.source)) / inside):
            # Over a link, which may lead elsewhere in the container than on the machine.
            return ""
    if not path.exists():
        return f'exec: "{command}": no such file or directory'
    return "" if path.is_file() and os.access(path, os.X_OK) else f'exec: "{command}": permission denied'


def _message_path(container: Container, machine: Machine) -> PurePosixPath | None:
    """Return where a container's termination message is mounted; None where this machine cannot.

    Raises:
        ConfigError: no file can be there.
    """
    text = container.termination_message_path
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or Path(path).is_dir():
        raise ConfigError(f"terminationMessagePath {text!r} is no absolute path of a file")
    can_mount = machine.can_mount_in_dev if path.is_relative_to("/dev") else bool(machine.namespace_command)
    return path if can_mount else None


def _host(pod: Pod, machine: Machine) -> str:
    return host_name(pod) if "--uts" in machine.namespace_command else ""


def _names_by_library(machine: Machine, hosts: Path, env: dict[str, str]) -> list[Note]:
    """Have a program resolve names by a preloaded library, or say that it cannot."""
    if machine.name_library is None:
        text = (
            "this machine allows no mount namespaces and has no libnss_wrapper (apt-get install libnss-wrapper): names "
            "of Services do not resolve, their addresses and the pods' do"
        )
        return [Note("NamesNotResolved", text)]
    env["NSS_WRAPPER_HOSTS"] = str(hosts)
    env["LD_PRELOAD"] = " ".join(filter(None, (str(machine.name_library), env.get("LD_PRELOAD"))))
    return []


def _api_env(machine: Machine) -> dict[str, str]:
    if machine.api_address is None:
        return {}
    host, port = machine.api_address
    names = ("KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS")
    return {"KUBERNETES_SERVICE_HOST": host} | dict.fromkeys(names, str(port))


def _is_service_account(mount: VolumeMount) -> bool:
    return PurePosixPath(mount.mount_path) == PurePosixPath(SERVICE_ACCOUNT_DIR)


def _mounts(pod: Pod, container: Container, machine: Machine, sources: Sources, pod_dir: Path) -> tuple[Mount, ...]:
    if not container.volume_mounts:
        return ()
    paths = ", ".join(m.mount_path for m in container.volume_mounts if not _is_service_account(m))
    if paths and not machine.namespace_command:
        raise VolumeError(f"this machine allows no mount namespaces (unshare), so {paths} cannot be mounted")
    names = {m.name for m in container.volume_mounts}
    used = [v for v in pod.spec.volumes if v.name in names]
    places = {v.name: write_volume(v, pod, sources, volume_dir(pod_dir, v.name)) for v in used}
    mounts = resolve_mounts(container, places, frozenset(v.name for v in used if is_read_only(v)))
    make_sub_paths(mounts)
    return mounts
