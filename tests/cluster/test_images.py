"""Images are names of local programs."""

from __future__ import annotations

import pytest

from pybrix.cluster.images import ImageError, local_programs, repository, resolve

PROGRAMS = local_programs("/venv/bin/python")
SIMULATOR = ("/venv/bin/python", "-m", "pybrix", "simulator")


@pytest.mark.parametrize(
    ("image", "want"),
    [
        ("busybox", "busybox"),
        ("busybox:1.36", "busybox"),
        ("library/busybox", "busybox"),
        ("docker.io/library/busybox:latest", "busybox"),
        ("vllm/vllm-openai:v0.8.5", "vllm/vllm-openai"),
        ("ghcr.io/vllm/vllm-openai@sha256:" + "a" * 64, "vllm/vllm-openai"),
        ("localhost:5000/pybrix/simulator:dev", "pybrix/simulator"),
        ("localhost/pybrix/simulator", "pybrix/simulator"),
    ],
)
def test_repository_leaves_out_registry_tag_and_digest(image: str, want: str) -> None:
    assert repository(image) == want


@pytest.mark.parametrize("image", ["Upper/case", "a//b", "x:", "x:bad tag", "x@sha256:short", " ", "-x", "a/b:c:d"])
def test_malformed_images_are_refused(image: str) -> None:
    with pytest.raises(ImageError) as caught:
        repository(image)
    assert caught.value.reason == "InvalidImageName"


@pytest.mark.parametrize(
    ("image", "command", "args", "want"),
    [
        pytest.param("pybrix/simulator", (), ("--port", "1"), (*SIMULATOR, "--port", "1"), id="entrypoint and args"),
        pytest.param("vllm/vllm-openai:v1", (), ("--model", "m"), (*SIMULATOR, "--model", "m"), id="vLLM is simulated"),
        pytest.param(
            "vllm/vllm-openai",
            ("python3", "-m", "vllm.entrypoints.openai.api_server", "--port", "1"),
            ("--model", "m"),
            (*SIMULATOR, "--port", "1", "--model", "m"),
            id="a spelled-out vLLM command too",
        ),
        pytest.param("vllm/vllm-openai", ("vllm", "serve", "m"), (), (*SIMULATOR, "m"), id="and vllm serve"),
        pytest.param("redis:7", (), (), ("redis-server",), id="Redis"),
        pytest.param("redis:7", (), ("--save", ""), ("redis-server", "--save", ""), id="Redis with options"),
        pytest.param("redis", (), ("redis-server", "a.conf"), ("redis-server", "a.conf"), id="Redis spelled out"),
        pytest.param("busybox", ("sh", "-c", "true"), (), ("sh", "-c", "true"), id="an unknown image with a command"),
        pytest.param("", ("sleep",), ("1",), ("sleep", "1"), id="no image at all"),
        pytest.param("pybrix/simulator", ("sleep", "1"), (), ("sleep", "1"), id="a command replaces the entrypoint"),
    ],
)
def test_what_runs(image: str, command: tuple[str, ...], args: tuple[str, ...], want: tuple[str, ...]) -> None:
    assert resolve(PROGRAMS, image, command, args).argv == want


def test_an_unknown_image_without_a_command_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ImageError, match=r'no local program stands for image "nginx:1".*pybrix/simulator') as caught:
        resolve(PROGRAMS, "nginx:1", (), ())
    assert caught.value.reason == "ErrImagePull"


def test_servers_are_told_the_pod_ip_where_nothing_else_binds_them_to_it() -> None:
    assert resolve(PROGRAMS, "pybrix/simulator", (), ()).bind_args == ("--host", "{pod_ip}")
    assert resolve(PROGRAMS, "busybox", ("httpd",), ()).bind_args == ()


@pytest.mark.parametrize("command", [(), ("sh", "-c", "exec redis-server")], ids=["itself", "by a shell"])
def test_an_image_says_what_the_machine_has_to_have(command: tuple[str, ...]) -> None:
    launch = resolve(PROGRAMS, "docker.io/library/redis:7.2-alpine", command, ())
    assert launch.needs == "redis-server"
    assert "apt-get install redis-server" in launch.remedy
    assert resolve(PROGRAMS, "pybrix/simulator", command, ()).needs == ""
