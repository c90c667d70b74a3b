"""When tokens are fetched, and what a container gets that cannot have them at the usual place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.nodeagent.preparation import Launchable, Machine, prepare
from pybrix.cluster.nodeagent.seen import Blocked
from pybrix.cluster.nodeagent.tokens import PodTokens
from pybrix.cluster.nodeagent.volumes import Sources
from pybrix.kube.kubeconfig import SERVICE_ACCOUNT_DIR
from tests.support.pods import make_container, make_pod

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOURCES = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]


class Given:
    """Gives out numbered tokens of the lifetime that is asked for."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.asked: list[tuple[ObjectKey, Mapping[str, Any]]] = []

    async def create_token(self, account: ObjectKey, spec: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((account, spec))
        ends = format_rfc3339(self.now + timedelta(seconds=spec["expirationSeconds"]))
        return {"token": f"token-{len(self.asked)}", "expirationTimestamp": ends}


def pod_with(*sources: dict[str, Any], mount_path: str = str(SERVICE_ACCOUNT_DIR)) -> Pod:
    container = make_container(image="x", command=["true"], volumeMounts=[{"name": "v", "mountPath": mount_path}])
    return make_pod("p", container, volumes=[{"name": "v", "projected": {"sources": list(sources)}}])


async def test_a_token_is_fetched_once_and_again_at_four_fifths_of_its_life() -> None:
    pod, tokens, given = pod_with(*SOURCES), PodTokens(), Given(NOW)
    assert tokens.due_at(pod, NOW) == NOW
    await tokens.renew(pod, NOW, given)
    assert tokens.texts == {("", 3600): "token-1"}
    assert tokens.due_at(pod, NOW) == NOW + timedelta(seconds=2880)
    given.now = NOW + timedelta(seconds=2879)
    await tokens.renew(pod, given.now, given)
    assert tokens.texts == {("", 3600): "token-1"}
    given.now = NOW + timedelta(seconds=2880)
    await tokens.renew(pod, given.now, given)
    assert tokens.texts == {("", 3600): "token-2"}


async def test_every_audience_has_a_token_of_its_own() -> None:
    other = {"serviceAccountToken": {"path": "vault", "audience": "vault", "expirationSeconds": 600}}
    pod, tokens, given = pod_with(*SOURCES, other), PodTokens(), Given(NOW)
    await tokens.renew(pod, NOW, given)
    assert set(tokens.texts) == {("", 3600), ("vault", 600)}
    assert [spec.get("audiences") for _, spec in given.asked] == [None, ["vault"]]
    assert tokens.due_at(pod, NOW) == NOW + timedelta(seconds=480)


def test_a_pod_that_asks_for_none_is_never_due() -> None:
    assert PodTokens().due_at(pod_with({"configMap": {"name": "c"}}), NOW) is None


def prepared(tmp_path: Path, pod: Pod, namespace_command: tuple[str, ...] = ()) -> Launchable | Blocked:
    machine = Machine(base_env={"PATH": "/usr/bin:/bin"}, programs={}, namespace_command=namespace_command,
                      api_address=("127.0.0.1", 6443))  # fmt: skip
    tokens = {("", 3600): "the token"}
    sources = Sources({}, {}, "127.65.0.9", tokens=tokens)
    return prepare(pod, pod.spec.containers[0], machine, pod_dir=tmp_path, sources=sources)


def test_without_mount_namespaces_a_variable_names_the_place_and_a_warning_says_so(tmp_path: Path) -> None:
    found = prepared(tmp_path, pod_with(*SOURCES))
    assert isinstance(found, Launchable)
    place = Path(found.env["PYBRIX_SERVICE_ACCOUNT_DIR"])
    assert (place / "token").read_text() == "the token"
    assert found.mount_script == ""
    assert [n.reason for n in found.warnings if str(place) in n.message] == ["ServiceAccountElsewhere"]


def test_with_them_it_is_mounted_where_it_belongs(tmp_path: Path) -> None:
    found = prepared(tmp_path, pod_with(*SOURCES), ("unshare", "--mount"))
    assert isinstance(found, Launchable)
    assert "PYBRIX_SERVICE_ACCOUNT_DIR" not in found.env
    assert "kubernetes.io/serviceaccount" in found.mount_script
    assert (found.env["KUBERNETES_SERVICE_HOST"], found.env["KUBERNETES_SERVICE_PORT"]) == ("127.0.0.1", "6443")


@pytest.mark.parametrize("path", ["/data", "/var/run/secrets"])
def test_other_mounts_need_a_namespace(tmp_path: Path, path: str) -> None:
    found = prepared(tmp_path, pod_with(*SOURCES, mount_path=path))
    assert isinstance(found, Blocked)
    assert path in found.message
