"""Volumes as directories, and the script that mounts them in a container's own mount namespace.

A local process sees the machine's file system, so a `mountPath` exists for it alone only inside a mount namespace.
Where the machine allows none, a container with mounts is not started.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from pybrix.api.core import ConfigMap, Container, FieldRef, Pod, ResourceFieldRef, Secret, Volume
from pybrix.api.meta import Value
from pybrix.cluster.nodeagent.env import ConfigError, decode_secret, field_value, resource_value


class VolumeError(ValueError):
    """A volume cannot be made: its source is missing, or this node has no such kind of volume (FailedMount)."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Bind `source` (a directory or a file of the machine) to `target` as the container sees it."""

    source: Path
    target: PurePosixPath
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """What volumes are filled from: the namespace's ConfigMaps and Secrets by name, and the pod's own facts."""

    configmaps: Mapping[str, ConfigMap]
    secrets: Mapping[str, Secret]
    pod_ip: str = ""
    host_ip: str = ""
    capacity: Mapping[str, str] | None = None


class _Item(Value, frozen=True):
    key: str = ""
    path: str = ""
    mode: int | None = None
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None


def volume_files(volume: Volume, pod: Pod, sources: Sources) -> dict[str, bytes] | None:
    """Return the content of a volume by relative path; None when it is not one of files but a directory.

    Raises:
        VolumeError: a source that is not optional is missing, or the kind of volume is not one of this node's.
    """
    if volume.empty_dir is not None or volume.host_path is not None:
        return None
    if volume.config_map is not None:
        return _configmap_files(volume.config_map, volume.config_map.get("name", ""), sources)
    if volume.secret is not None:
        return _secret_files(volume.secret, volume.secret.get("secretName", ""), sources)
    if volume.downward_api is not None:
        return _downward_files(volume.downward_api, pod, sources)
    if volume.projected is not None:
        files: dict[str, bytes] = {}
        for source in volume.projected.get("sources") or []:
            if (part := source.get("configMap")) is not None:
                files |= _configmap_files(part, part.get("name", ""), sources)
            elif (part := source.get("secret")) is not None:
                files |= _secret_files(part, part.get("name", ""), sources)
            elif (part := source.get("downwardAPI")) is not None:
                files |= _downward_files(part, pod, sources)
            else:
                raise VolumeError(f'volume "{volume.name}": this node cannot project {", ".join(source) or "nothing"}')
        return files
    raise VolumeError(
        f'volume "{volume.name}" is of a kind that this node does not have '
        "(it has emptyDir, hostPath, configMap, secret, downwardAPI, projected)"
    )


def _configmap_files(source: Mapping[str, Any], name: str, sources: Sources) -> dict[str, bytes]:
    configmap = sources.configmaps.get(name)
    if configmap is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'configmap "{name}" not found')
    content = {key: text.encode() for key, text in configmap.data.items()}
    content |= {key: decode_secret(text) for key, text in configmap.binary_data.items()}
    return _chosen(content, source, f'configmap "{name}"')


def _secret_files(source: Mapping[str, Any], name: str, sources: Sources) -> dict[str, bytes]:
    secret = sources.secrets.get(name)
    if secret is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'secret "{name}" not found')
    return _chosen({key: decode_secret(text) for key, text in secret.data.items()}, source, f'secret "{name}"')


def _chosen(content: Mapping[str, bytes], source: Mapping[str, Any], what: str) -> dict[str, bytes]:
    items = [msgspec.convert(item, _Item) for item in source.get("items") or []]
    if not items:
        return dict(content)
    files: dict[str, bytes] = {}
    for item in items:
        if item.key in content:
            files[_relative(item.path)] = content[item.key]
        elif not source.get("optional"):
            raise VolumeError(f"{what} has no key {item.key}")
    return files


def _downward_files(source: Mapping[str, Any], pod: Pod, sources: Sources) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for item in (msgspec.convert(item, _Item) for item in source.get("items") or []):
        if item.field_ref is not None:
            files[_relative(item.path)] = _downward_field(item.field_ref, pod, sources).encode()
        elif item.resource_field_ref is not None:
            container = next((c for c in pod.spec.containers if c.name == item.resource_field_ref.container_name), None)
            if container is None:
                raise VolumeError(f"downwardAPI {item.path}: no container {item.resource_field_ref.container_name!r}")
            value = resource_value(item.resource_field_ref, pod, container, sources.capacity or {})
            files[_relative(item.path)] = value.encode()
    return files


def _downward_field(reference: FieldRef, pod: Pod, sources: Sources) -> str:
    # Whole maps are allowed in files though not in variables: one key="value" a line.
    maps = {"metadata.labels": pod.metadata.labels, "metadata.annotations": pod.metadata.annotations}
    if reference.field_path in maps:
        return "\n".join(f'{key}="{value}"' for key, value in sorted(maps[reference.field_path].items()))
    try:
        return field_value(reference, pod, pod_ip=sources.pod_ip, host_ip=sources.host_ip)
    except ConfigError as error:
        raise VolumeError(str(error)) from error


def _relative(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise VolumeError(f"{path!r} is no path inside a volume")
    return str(parts)


def write_volume(volume: Volume, pod: Pod, sources: Sources, directory: Path) -> Path:
    """Make a volume real and return where it is; an existing one is brought up to date.

    Raises:
        VolumeError: see `volume_files`; or a hostPath that is not what its type says.
    """
    if volume.host_path is not None:
        return _host_path(volume)
    try:
        files = volume_files(volume, pod, sources)
    except ConfigError as error:
        raise VolumeError(f'volume "{volume.name}": {error}') from error
    directory.mkdir(parents=True, exist_ok=True)
    if files is None:
        return directory
    for name, content in files.items():
        path = directory / name
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        # Created private, as a Secret is; a local process runs as the same user anyway.
        temporary.touch(mode=0o600)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    for path in [p for p in directory.rglob("*") if p.is_file() and str(p.relative_to(directory)) not in files]:
        path.unlink()
    return directory


def _host_path(volume: Volume) -> Path:
    assert volume.host_path is not None
    path, kind = Path(str(volume.host_path.get("path", ""))), str(volume.host_path.get("type") or "")
    if not path.is_absolute():
        raise VolumeError(f'volume "{volume.name}": hostPath {path} is not absolute')
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    is_right = {
        "": path.exists(),
        "Directory": path.is_dir(),
        "DirectoryOrCreate": path.is_dir(),
        "File": path.is_file(),
        "FileOrCreate": path.is_file(),
        "Socket": path.is_socket(),
    }.get(kind, False)
    if not is_right:
        raise VolumeError(f'volume "{volume.name}": hostPath type check failed: {path} is not a {kind or "path"}')
    return path


def resolve_mounts(container: Container, volumes: Mapping[str, Path], files_only: frozenset[str]) -> tuple[Mount, ...]:
    """Return the container's mounts, outer ones first.

    Args:
        volumes: where each volume of the pod is.
        files_only: names of volumes that are always read-only (ConfigMap, Secret and their like).

    Raises:
        VolumeError: a mount names no volume of the pod, or its path leads out of it.
    """
    mounts = []
    for mount in container.volume_mounts:
        source = volumes.get(mount.name)
        if source is None:
            raise VolumeError(f'mount "{mount.mount_path}" names no volume of the pod: "{mount.name}"')
        target = PurePosixPath(mount.mount_path)
        if not target.is_absolute() or ".." in target.parts or target == PurePosixPath("/"):
            raise VolumeError(f"{mount.mount_path!r} is no path to mount at")
        if mount.sub_path:
            source = source / _relative(mount.sub_path)
        mounts.append(Mount(source, target, mount.read_only or mount.name in files_only))
    return tuple(sorted(mounts, key=lambda m: len(m.target.parts)))


def make_sub_paths(mounts: Sequence[Mount]) -> None:
    """Make the directories that a `subPath` names and nobody has made yet."""
    for mount in mounts:
        if not mount.source.exists():
            mount.source.mkdir(parents=True)


# mirror FROM TO: make the empty directory TO look like FROM, with room for further entries.
_MIRROR = """\
mirror() {
  for entry in "$1"/* "$1"/.[!.]*; do
    to=$2/${entry##*/}
    if [ -L "$entry" ]; then cp -P "$entry" "$to"
    elif [ -d "$entry" ]; then mkdir "$to"; mount --rbind "$entry" "$to"
    elif [ -e "$entry" ]; then : >"$to"; mount --bind "$entry" "$to"
    fi
  done
}
"""


def render_mount_script(mounts: Sequence[Mount], scratch: Path) -> str:
    """Return a shell script that mounts and then runs its arguments; it needs a mount namespace of its own.

    A target whose parent does not exist is never created on the machine: the nearest directory that exists is
    replaced, in this namespace, by a copy of mounts with room for it. For the root that means a chroot.

    Args:
        mounts: outer ones first.
        scratch: a directory of the machine that belongs to this container.
    """
    lines = ["set -e", _MIRROR, "root="]
    # Links are followed on the machine: inside a chroot that is being built, an absolute one would lead out of it.
    targets = [PurePosixPath(os.path.realpath(m.target)) for m in mounts]
    needs_root = any(_existing(target) == PurePosixPath("/") for target in targets)
    if needs_root:
        room = shlex.quote(str(scratch / "root"))
        lines += [f"mkdir -p {room} && mount -t tmpfs tmpfs {room}", f"mirror '' {room}", f"root={room}"]
    for index, (mount, target) in enumerate(zip(mounts, targets, strict=True)):
        lines += _mount_lines(mount, target, targets[:index], scratch / f"m{index}")
    if needs_root:
        inner = 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"'
        lines.append(f'exec chroot "$root" /bin/sh -c {shlex.quote(inner)} sh "$PWD" "$@"')
    else:
        # Again, because a mount may have covered the working directory.
        lines.append('cd "$PWD" && exec "$@"')
    return "\n".join(lines)


def _mount_lines(mount: Mount, target: PurePosixPath, done: Sequence[PurePosixPath], spare: Path) -> Iterator[str]:
    source, to = shlex.quote(str(mount.source)), f'"$root"{shlex.quote(str(target))}'
    is_inside = any(target.is_relative_to(outer) for outer in done)
    parent = _existing(target)
    if not is_inside and parent != target and parent != PurePosixPath("/"):
        place, room = f'"$root"{shlex.quote(str(parent))}', shlex.quote(str(spare))
        yield f"mkdir -p {room} && mount -t tmpfs tmpfs {room} && mirror {place} {room} && mount --rbind {room} {place}"
    if mount.source.is_file():
        yield f"[ -e {to} ] || {{ mkdir -p {to}; rmdir {to}; : >{to}; }}"
    else:
        yield f"[ -d {to} ] || mkdir -p {to}"
    yield f"mount --bind {source} {to}"
    if mount.is_read_only:
        yield f"mount -o remount,bind,ro {to}"


def _existing(target: PurePosixPath) -> PurePosixPath:
    return next(p for p in (target, *target.parents) if Path(p).exists())


def remove_tree(directory: Path) -> None:
    """Remove a pod's directory; what a process wrote there at the same moment is no error."""
    shutil.rmtree(directory, ignore_errors=True)


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def refuse_names(pod: Pod) -> str:
    """Return why this node refuses the pod: names become directories, so they are DNS labels. Empty: it accepts."""
    named = [("container", c.name) for c in (*pod.spec.init_containers, *pod.spec.containers)]
    named += [("volume", v.name) for v in pod.spec.volumes]
    for what, name in named:
        if not _NAME.fullmatch(name):
            return f"{what} name {name!r} is not a DNS label"
    names = [n for what, n in named if what == "container"]
    if len(set(names)) != len(names):
        return "two containers have the same name"
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", pod.uid):
        return f"uid {pod.uid!r} is not a UID"
    return "" if pod.spec.containers else "the pod has no containers"
