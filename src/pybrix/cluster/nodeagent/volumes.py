"""Volumes as directories, and the script that mounts them in a container's own mount namespace.

A local process sees the machine's file system, so a `mountPath` exists for it alone only inside a mount namespace.
Where the machine allows none, a container with mounts is not started.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from pybrix.api.core import ConfigMap, Container, FieldRef, Pod, ResourceFieldRef, Secret, Volume
from pybrix.api.meta import Value
from pybrix.cluster.nodeagent.env import ConfigError, decode_secret, field_value, resource_value
from pybrix.cluster.nodeagent.tokens import Wanted, wanted_of

DEFAULT_MODE = 0o644


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
    tokens: Mapping[Wanted, str] = field(default_factory=dict)
    """Tokens of the pod's service account."""
    claims: Mapping[str, Path] = field(default_factory=dict)
    """Directories of the namespace's bound claims by the claims' names."""
    hosts: Path | None = None
    """The pod's hosts file; None: it has the machine's."""
    link_variables: Mapping[str, str] = field(default_factory=dict)
    """Variables that tell of the namespace's Services."""


@dataclass(frozen=True, slots=True)
class GivenFile:
    """One file of a volume that is filled from the API."""

    content: bytes
    mode: int = DEFAULT_MODE

    def is_at(self, path: Path) -> bool:
        """Say whether a path has this content and this mode already."""
        try:
            return stat.S_IMODE(path.stat().st_mode) == self.mode and path.read_bytes() == self.content
        except OSError:
            # Not there, or its mode keeps its owner from reading it.
            return False


class _Item(Value, frozen=True):
    key: str = ""
    path: str = ""
    mode: int | None = None
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None


def is_directory(volume: Volume) -> bool:
    """Say whether a volume is a directory to write in, and not files that are given."""
    kinds = (volume.empty_dir, volume.host_path, volume.persistent_volume_claim)
    return any(kind is not None for kind in kinds)


def is_read_only(volume: Volume) -> bool:
    """Say whether a volume is mounted read-only, whatever its mounts say."""
    claim = volume.persistent_volume_claim
    return not is_directory(volume) or (claim is not None and bool(claim.get("readOnly")))


def volume_files(volume: Volume, pod: Pod, sources: Sources) -> dict[str, GivenFile] | None:
    """Return the files of a volume by relative path; None when it is not one of files but a directory.

    Raises:
        VolumeError: a source that is not optional is missing, or the kind of volume is not one of this node's.
    """
    if is_directory(volume):
        return None
    if volume.config_map is not None:
        mode = _default_mode(volume.config_map)
        return _configmap_files(volume.config_map, volume.config_map.get("name", ""), sources, mode)
    if volume.secret is not None:
        mode = _default_mode(volume.secret)
        return _secret_files(volume.secret, volume.secret.get("secretName", ""), sources, mode)
    if volume.downward_api is not None:
        return _downward_files(volume.downward_api, pod, sources, _default_mode(volume.downward_api))
    if volume.projected is not None:
        mode = _default_mode(volume.projected)
        files: dict[str, GivenFile] = {}
        for source in volume.projected.get("sources") or []:
            if (part := source.get("configMap")) is not None:
                files |= _configmap_files(part, part.get("name", ""), sources, mode)
            elif (part := source.get("secret")) is not None:
                files |= _secret_files(part, part.get("name", ""), sources, mode)
            elif (part := source.get("downwardAPI")) is not None:
                files |= _downward_files(part, pod, sources, mode)
            elif (part := source.get("serviceAccountToken")) is not None:
                token = sources.tokens.get(wanted_of(part))
                if token is None:
                    raise VolumeError(f'volume "{volume.name}": there is no token of the service account yet')
                files[_relative(part.get("path", ""))] = GivenFile(token.encode(), mode)
            else:
                raise VolumeError(f'volume "{volume.name}": this node cannot project {", ".join(source) or "nothing"}')
        return files
    raise VolumeError(
        f'volume "{volume.name}" is of a kind that this node does not have '
        "(it has emptyDir, hostPath, persistentVolumeClaim, configMap, secret, downwardAPI, projected)"
    )


def _default_mode(volume: Mapping[str, Any]) -> int:
    mode = volume.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)


def _configmap_files(source: Mapping[str, Any], name: str, sources: Sources, mode: int) -> dict[str, GivenFile]:
    configmap = sources.configmaps.get(name)
    if configmap is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'configmap "{name}" not found')
    content = {key: text.encode() for key, text in configmap.data.items()}
    content |= {key: decode_secret(text) for key, text in configmap.binary_data.items()}
    return _chosen(content, source, f'configmap "{name}"', mode)


def _secret_files(source: Mapping[str, Any], name: str, sources: Sources, mode: int) -> dict[str, GivenFile]:
    secret = sources.secrets.get(name)
    if secret is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'secret "{name}" not found')
    return _chosen({key: decode_secret(text) for key, text in secret.data.items()}, source, f'secret "{name}"', mode)


def _chosen(content: Mapping[str, bytes], source: Mapping[str, Any], what: str, mode: int) -> dict[str, GivenFile]:
    items = [msgspec.convert(item, _Item) for item in source.get("items") or []]
    if not items:
        return {key: GivenFile(value, mode) for key, value in content.items()}
    files: dict[str, GivenFile] = {}
    for item in items:
        if item.key in content:
            files[_relative(item.path)] = GivenFile(content[item.key], _mode(item, mode))
        elif not source.get("optional"):
            raise VolumeError(f"{what} has no key {item.key}")
    return files


def _mode(item: _Item, default: int) -> int:
    return default if item.mode is None else item.mode


def _downward_files(source: Mapping[str, Any], pod: Pod, sources: Sources, mode: int) -> dict[str, GivenFile]:
    files: dict[str, GivenFile] = {}
    for item in (msgspec.convert(item, _Item) for item in source.get("items") or []):
        if item.field_ref is not None:
            text = _downward_field(item.field_ref, pod, sources)
            files[_relative(item.path)] = GivenFile(text.encode(), _mode(item, mode))
        elif item.resource_field_ref is not None:
            container = next((c for c in pod.spec.containers if c.name == item.resource_field_ref.container_name), None)
            if container is None:
                raise VolumeError(f"downwardAPI {item.path}: no container {item.resource_field_ref.container_name!r}")
            text = resource_value(item.resource_field_ref, pod, container, sources.capacity or {})
            files[_relative(item.path)] = GivenFile(text.encode(), _mode(item, mode))
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


def volume_dir(pod_dir: Path, name: str) -> Path:
    """Return where a volume of a pod is, a hostPath and a claim apart."""
    return pod_dir / ".volumes" / name


def write_volume(volume: Volume, pod: Pod, sources: Sources, directory: Path) -> Path:
    """Make a volume real and return where it is; an existing one is brought up to date.

    Raises:
        VolumeError: see `volume_files`; or a hostPath that is not what its type says.
    """
    if volume.host_path is not None:
        return _host_path(volume)
    if volume.persistent_volume_claim is not None:
        return _claim(str(volume.persistent_volume_claim.get("claimName", "")), sources)
    try:
        files = volume_files(volume, pod, sources)
    except ConfigError as error:
        raise VolumeError(f'volume "{volume.name}": {error}') from error
    directory.parent.mkdir(parents=True, exist_ok=True)
    # The modes of files are for those who see them in a container. On the machine this directory keeps others out.
    directory.parent.chmod(0o700)
    directory.mkdir(exist_ok=True)
    if files is None:
        return directory
    for name, file in files.items():
        path = directory / name
        if file.is_at(path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_bytes(file.content)
        temporary.chmod(file.mode)
        os.replace(temporary, path)
    for path in [p for p in directory.rglob("*") if p.is_file() and str(p.relative_to(directory)) not in files]:
        path.unlink()
    return directory


def _claim(name: str, sources: Sources) -> Path:
    place = sources.claims.get(name)
    if place is None:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found, or not bound yet')
    place.mkdir(parents=True, exist_ok=True)
    return place


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


def resolve_mounts(container: Container, volumes: Mapping[str, Path], read_only: frozenset[str]) -> tuple[Mount, ...]:
    """Return the container's mounts, outer ones first.

    Args:
        volumes: where each volume of the pod is.
        read_only: names of volumes that are always read-only (ConfigMap, Secret and their like).

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
        mounts.append(Mount(source, target, mount.read_only or mount.name in read_only))
    return tuple(sorted(mounts, key=lambda m: len(m.target.parts)))


def make_sub_paths(mounts: Sequence[Mount]) -> None:
    """Make the directories that a `subPath` names and nobody has made yet."""
    for mount in mounts:
        if not mount.source.exists():
            mount.source.mkdir(parents=True)


# mirror FROM TO: make the empty directory TO look like FROM, with room for further entries. One mount(8) does all the
# work from a table, since starting a program for each entry takes most of a container's start; names that the table
# would read otherwise get one of their own. Devices are links into one mount of FROM as a whole: /dev/ptmx works beside
# its own pts alone.
_MIRROR = """\
mirror() {
  table= directories= links= devices=
  for entry in "$1"/* "$1"/.[!.]*; do
    to=$2/${entry##*/}
    if [ -L "$entry" ]; then
      case "$entry" in
        *[!A-Za-z0-9./:@_+-]*) cp -P "$entry" "$to" ;;
        *) links="$links $entry" ;;
      esac
      continue
    elif [ -c "$entry" ] || [ -b "$entry" ]; then devices="$devices .machine/${entry##*/}"; continue
    elif [ -d "$entry" ]; then kind=rbind
    elif [ -e "$entry" ]; then kind=bind; : >"$to"
    else continue
    fi
    case "$entry $to" in
      *" "*" "*|*[!A-Za-z0-9./:@_+\\ -]*)
        if [ "$kind" = rbind ]; then mkdir "$to"; fi
        mount "--$kind" "$entry" "$to" ;;
      *)
        if [ "$kind" = rbind ]; then directories="$directories $to"; fi
        table="$table$entry $to none $kind 0 0
" ;;
    esac
  done
  if [ "$directories" ]; then mkdir $directories; fi
  if [ "$table" ]; then printf %s "$table" >"$2.table"; mount -a -T "$2.table"; fi
  if [ "$links" ]; then cp -P $links "$2"; fi
  if [ "$devices" ]; then
    mkdir "$2/.machine"
    mount --rbind "$1" "$2/.machine"
    ln -s $devices "$2"
  fi
}
"""


def render_mount_script(mounts: Sequence[Mount], scratch: Path, *, host: str = "") -> str:
    """Return a shell script that mounts and then runs its arguments; it needs a mount namespace of its own.

    A target whose parent does not exist is never created on the machine: the nearest directory that exists is
    replaced, in this namespace, by a copy of mounts with room for it. For the root that means a chroot.

    Args:
        mounts: outer ones first.
        scratch: a directory of the machine that belongs to this container.
        host: name of the machine as the container is to see it, which needs a UTS namespace; empty: the machine's.
    """
    lines = ["set -e", _MIRROR, "root="]
    if host:
        # Nothing depends on it where the program is missing: HOSTNAME says the same.
        lines.append(f"hostname {shlex.quote(host)} 2>/dev/null || :")
    # Links are followed on the machine: inside a chroot that is being built, an absolute one would lead out of it.
    targets = [PurePosixPath(os.path.realpath(m.target)) for m in mounts]
    needs_root = any(_existing(target) == PurePosixPath("/") for target in targets)
    if needs_root:
        room = shlex.quote(str(scratch / "root"))
        lines += [f"mkdir -p {room} && mount -t tmpfs tmpfs {room}", f"mirror '' {room}", f"root={room}"]
    mirrored: set[PurePosixPath] = set()
    for index, (mount, target) in enumerate(zip(mounts, targets, strict=True)):
        lines += _mount_lines(mount, target, targets[:index], scratch / f"m{index}", mirrored)
    if needs_root:
        inner = 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"'
        lines.append(f'exec chroot "$root" /bin/sh -c {shlex.quote(inner)} sh "$PWD" "$@"')
    else:
        # Again, because a mount may have covered the working directory.
        lines.append('cd "$PWD" && exec "$@"')
    return "\n".join(lines)


def _mount_lines(
    mount: Mount, target: PurePosixPath, done: Sequence[PurePosixPath], spare: Path, mirrored: set[PurePosixPath]
) -> Iterator[str]:
    source, to = shlex.quote(str(mount.source)), f'"$root"{shlex.quote(str(target))}'
    is_inside = any(target.is_relative_to(outer) for outer in done)
    parent = _existing(target)
    # What was made a mirror for an earlier mount has room for this one too.
    if not is_inside and parent not in (target, PurePosixPath("/"), *mirrored):
        mirrored.add(parent)
        place, room = f'"$root"{shlex.quote(str(parent))}', shlex.quote(str(spare))
        yield f"mkdir -p {room} && mount -t tmpfs tmpfs {room} && mirror {place} {room} && mount --rbind {room} {place}"
    if mount.source.is_file():
        above = f'"$root"{shlex.quote(str(target.parent))}'
        yield f"[ -e {to} ] || {{ [ -d {above} ] || mkdir -p {above}; : >{to}; }}"
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
