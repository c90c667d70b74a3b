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
    runs `entrypoint` instead. `bind_args` make the program listen on the pod's own address when nothing else does;
    `{pod_ip}` stands for it.
    """

    entrypoint: tuple[str, ...]
    bind_args: tuple[str, ...] = ()
    command_aliases: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run for a container: its argument list, and the arguments to add when no shim turns wildcard binds."""

    argv: tuple[str, ...]
    bind_args: tuple[str, ...]
    image_id: str


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
    return {
        "pybrix/pybrix": Program(pybrix()),
        "pybrix/simulator": Program(pybrix("simulator"), listen),
        "pybrix/llamacpp": Program(pybrix("llamacpp"), listen),
        "vllm/vllm-openai": vllm,
        "aibrix/vllm-openai": vllm,
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
    if command:
        for alias in program.command_aliases if program is not None else ():
            if tuple(command[: len(alias)]) == alias:
                assert program is not None
                rest = (*command[len(alias) :], *args)
                return Launch((*program.entrypoint, *rest), program.bind_args, image_id)
        return Launch((*command, *args), (), image_id)
    if program is None:
        known = ", ".join(sorted(programs))
        raise ImageError(
            "ErrImagePull",
            f'no local program stands for image "{image}": give the container a command, or use one of {known}',
        )
    return Launch((*program.entrypoint, *args), program.bind_args, image_id)
