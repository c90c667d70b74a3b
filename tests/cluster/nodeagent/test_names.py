"""Which names resolve to which addresses, and hosts files that are written while somebody reads them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import EndpointSlice, Service
from pybrix.cluster.images import local_programs
from pybrix.cluster.nodeagent.hosts import _write_in_place, find_name_library
from pybrix.cluster.nodeagent.names import (
    host_name,
    link_variables,
    machine_lines,
    namespace_lines,
    own_lines,
    service_entries,
    without_own_name,
)
from pybrix.cluster.nodeagent.namespaces import mount_namespace_command
from pybrix.cluster.nodeagent.preparation import Launchable, Machine, prepare
from pybrix.cluster.nodeagent.volumes import Sources
from tests.support.pods import make_container, make_pod


def service(name: str = "web", namespace: str = "default", address: str = "127.128.0.5", **spec: Any) -> Service:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    metadata = {"name": name, "namespace": namespace}
    return Service.from_dict({"metadata": metadata, "spec": {"clusterIP": address, "ports": ports, **spec}})


def piece(*endpoints: dict[str, Any], of: str = "web", namespace: str = "default") -> EndpointSlice:
    metadata = {"name": f"{of}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": of}}
    return EndpointSlice.from_dict({"metadata": metadata, "addressType": "IPv4", "endpoints": list(endpoints)})


def endpoint(address: str, hostname: str = "", ready: bool | None = True) -> dict[str, Any]:
    return {"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}}


def resolved(lines: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines.splitlines():
        address, *words = line.split()
        for word in words:
            found.setdefault(word, []).append(address)
    return found


def test_a_service_has_its_address_under_every_form_of_its_name_and_the_short_one_at_home() -> None:
    entries = service_entries([service(), service("web", "other", "127.128.0.6")], [])
    at_home = resolved(namespace_lines(entries, "default"))
    assert at_home["web"] == ["127.128.0.5"]
    for form in ("web.default", "web.default.svc", "web.default.svc.cluster.local"):
        assert at_home[form] == ["127.128.0.5"]
    assert at_home["web.other.svc"] == ["127.128.0.6"]
    assert "web" not in resolved(namespace_lines(entries, "third"))
    called_so_itself = resolved(namespace_lines(entries, "default", besides="web"))
    assert "web" not in called_so_itself
    assert called_so_itself["web.default"] == ["127.128.0.5"]


def test_a_headless_service_is_its_ready_endpoints_and_each_has_its_own_name() -> None:
    slices = [
        piece(endpoint("127.64.0.1", "web-0"), endpoint("127.64.0.2", "web-1"), endpoint("127.64.0.3", "web-2", False)),
        piece(endpoint("127.64.0.4", ready=None)),
        piece(endpoint("127.64.9.9", "web-0"), namespace="other"),
    ]
    found = resolved(namespace_lines(service_entries([service(address="None")], slices), "default"))
    assert sorted(found["web.default.svc"]) == ["127.64.0.1", "127.64.0.2", "127.64.0.4"]
    for form in ("web-1.web", "web-1.web.default", "web-1.web.default.svc", "web-1.web.default.svc.cluster.local"):
        assert found[form] == ["127.64.0.2"]
    assert not any(name.startswith("web-2.") for name in found)


async def test_a_program_is_told_every_name_and_address_once(tmp_path: Path) -> None:
    namespace = await mount_namespace_command(os.environ["PATH"])
    if not namespace:
        pytest.skip("the machine allows no mount namespaces")
    pod = make_pod("web-0", hostname="web-0", subdomain="web")
    slices = [piece(endpoint("127.64.0.1", "web-0"), endpoint("127.64.0.2", "web-1"))]
    services = [service(address="None"), service("api", address="127.128.0.5")]
    common = namespace_lines(service_entries(services, slices), "default")
    hosts = tmp_path / "hosts"
    hosts.write_text(own_lines(pod, "127.64.0.1") + without_own_name(common, pod))

    def told(name: str) -> list[list[str]]:
        script = 'mount --bind "$0" /etc/hosts && exec getent -s files hosts "$1"'
        command = [*namespace, "/bin/sh", "-c", script, str(hosts), name]
        return [line.split() for line in subprocess.check_output(command, text=True).splitlines()]

    assert told("web") == [["127.64.0.1", "web"], ["127.64.0.2", "web"]]
    for name, address in (("api", "127.128.0.5"), ("web-1.web", "127.64.0.2")):
        forms = [f"{name}.default.svc.cluster.local", f"{name}.default.svc", f"{name}.default", name]
        assert [told(form) for form in forms] == [[[address, *forms]]] * 4
    full = "web-0.web.default.svc.cluster.local"
    assert told(full) == told("web-0") == told("127.64.0.1") == [["127.64.0.1", full, "web-0"]]
    assert [line[0] for line in told("web-0.web")] == ["127.64.0.1"]


def test_other_services_have_no_names() -> None:
    outside = service("db", address="", type="ExternalName", externalName="db.example.com")
    assert service_entries([outside, service("pending", address="")], []) == []


def test_a_pod_knows_itself_before_anybody_else_does() -> None:
    pod = make_pod(
        "web-1", hostname="web-1", subdomain="web", hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db", "db.local"]}]
    )
    found = resolved(own_lines(pod, "127.64.0.2"))
    assert found["localhost"] == ["127.0.0.1", "::1"]
    assert found["web-1"] == found["web-1.web.default.svc.cluster.local"] == ["127.64.0.2"]
    assert found["db"] == found["db.local"] == ["10.0.0.1"]


def test_a_host_name_has_at_most_63_characters() -> None:
    assert host_name(make_pod("a" * 62 + "-" + "b" * 20)) == "a" * 62


def test_the_machines_names_are_kept_but_for_those_the_pod_has() -> None:
    text = "127.0.0.1 localhost\n127.0.1.1 box box.local # me\n10.1.1.1 web-0 store\n# note\n10.1.1.2 proxy\n"
    assert resolved(machine_lines(text, ["web-0"])) == {
        "box": ["127.0.1.1"],
        "box.local": ["127.0.1.1"],
        "proxy": ["10.1.1.2"],
    }


def test_variables_tell_of_services_as_on_any_cluster() -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]
    found = link_variables([service("my-web", ports=ports), service("none", address="None")])
    assert found == {
        "MY_WEB_SERVICE_HOST": "127.128.0.5",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_HTTP": "80",
        "MY_WEB_SERVICE_PORT_DNS_UDP": "53",
        "MY_WEB_PORT": "tcp://127.128.0.5:80",
        "MY_WEB_PORT_80_TCP": "tcp://127.128.0.5:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "127.128.0.5",
        "MY_WEB_PORT_53_UDP": "udp://127.128.0.5:53",
        "MY_WEB_PORT_53_UDP_PROTO": "udp",
        "MY_WEB_PORT_53_UDP_PORT": "53",
        "MY_WEB_PORT_53_UDP_ADDR": "127.128.0.5",
    }


@given(contents=st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_a_file_is_written_in_place_whatever_was_there(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    path: Path = tmp_path_factory.mktemp("hosts") / "hosts"
    path.touch()
    inode = path.stat().st_ino
    for content in contents:
        _write_in_place(path, content)
        assert path.read_bytes() == content
    assert os.stat(path).st_ino == inode


@pytest.mark.skipif(find_name_library() is None, reason="needs libnss-wrapper")
async def test_without_mount_namespaces_a_preloaded_library_resolves_names(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.64.0.7\tweb-0.web.default.svc\n127.64.0.8\tweb-0.web.default.svc\n")
    machine = Machine(
        base_env={"PATH": os.environ["PATH"]}, programs=local_programs(sys.executable), name_library=find_name_library()
    )
    lookup = "import socket; print(sorted({i[4][0] for i in socket.getaddrinfo('web-0.web.default.svc', 1)}))"
    pod = make_pod("p", make_container(image="local/python", command=[sys.executable, "-c", lookup]))
    launch = prepare(
        pod, pod.spec.containers[0], machine, pod_dir=tmp_path, sources=Sources({}, {}, "127.64.0.9", hosts=hosts)
    )
    assert isinstance(launch, Launchable)
    process = await asyncio.create_subprocess_exec(*launch.argv, env=dict(launch.env), stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "['127.64.0.7', '127.64.0.8']"


def test_without_either_the_pod_hears_that_names_do_not_resolve(tmp_path: Path) -> None:
    machine = Machine(base_env={"PATH": os.environ["PATH"]}, programs=local_programs(sys.executable))
    pod = make_pod("p", make_container(image="local/sh", command=["/bin/sh"]))
    sources = Sources({}, {}, "127.64.0.9", hosts=tmp_path / "hosts")
    launch = prepare(pod, pod.spec.containers[0], machine, pod_dir=tmp_path, sources=sources)
    assert isinstance(launch, Launchable)
    (note,) = [n for n in launch.warnings if n.reason == "NamesNotResolved"]
    assert "apt-get install libnss-wrapper" in note.message
