"""Against an API server: what would change, who else is at work, and a password that is made once."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.core import Secret
from pybrix.api.identity import ObjectKey
from pybrix.base.errors import UsageError
from pybrix.cli.crds import to_yaml
from pybrix.install.cluster import AibrixRunning, Checked, changes, check_cluster
from pybrix.install.manifests import Parts, render
from pybrix.install.password import fill_password
from pybrix.install.rights import collect_rights
from pybrix.install.settings import resolve
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import Forbidden, NotFound
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.install.test_aibrix import deployment
from tests.support.apiserver import running_api_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[HttpClient]:
    async with running_api_server(tmp_path) as api, HttpClient(load_kubeconfig(api.kubeconfig)) as client:
        yield client


def manifests(*settings: str) -> list[dict[str, Any]]:
    """Return all but the definitions of kinds, which take the server seconds."""
    return render(resolve((), settings), collect_rights(), namespace="pybrix-system", parts=Parts(has_crds=False))


async def diff(client: HttpClient, documents: list[dict[str, Any]]) -> list[str]:
    return [text async for text in changes(client, documents, lambda obj: to_yaml([obj]))]


async def test_a_diff_is_all_first_nothing_after_an_apply_and_one_object_after_a_choice(tmp_path: Path) -> None:
    async with cluster(tmp_path) as client:
        documents = manifests()
        assert len(await diff(client, documents)) == len(documents)
        for document in documents:
            await client.apply_raw(document, field_manager="kubectl")
        assert await diff(client, documents) == []
        (changed,) = await diff(client, manifests("controllers.replicas=3"))
        assert "live/Deployment/pybrix-system/pybrix-controllers" in changed
        assert "-  replicas: 2" in changed
        assert "+  replicas: 3" in changed


async def test_the_password_is_made_once_and_applying_again_keeps_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as client:
        documents = manifests()
        for document in documents:
            await client.apply_raw(document, field_manager="kubectl")
        where = ObjectKey("pybrix-system", "pybrix-redis")
        assert await fill_password(client, where, "password") is True
        made = (await client.get(Secret, where)).data["password"]
        assert len(base64.b64decode(made)) >= 40
        assert await fill_password(client, where, "password") is False
        for document in documents:
            await client.apply_raw(document, field_manager="kubectl")
        assert (await client.get(Secret, where)).data == {"password": made}
        assert await diff(client, documents) == []


async def test_a_secret_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    async with cluster(tmp_path) as client:
        with pytest.raises(NotFound):
            await fill_password(client, ObjectKey("default", "none"), "password")


async def test_a_cluster_without_aibrix_passes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as client:
        assert await check_cluster(client, NOW) == Checked()


async def test_aibrix_is_refused_with_what_was_found(tmp_path: Path) -> None:
    async with cluster(tmp_path) as client:
        await client.create_raw({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aibrix-system"}})
        manager = deployment("aibrix-controller-manager", image="aibrix/controller-manager:v0.5.0")
        labels = {"control-plane": "controller-manager"}
        manager["spec"] |= {"selector": {"matchLabels": labels}}
        manager["spec"]["template"]["metadata"] = {"labels": labels}
        await client.create_raw({"apiVersion": "apps/v1", **manager})
        with pytest.raises(AibrixRunning) as raised:
            await check_cluster(client, NOW)
        assert [each.what for each in raised.value.conflicts] == ["Deployment aibrix-system/aibrix-controller-manager"]
        assert "kubectl -n aibrix-system scale deployment aibrix-controller-manager --replicas 0" in str(raised.value)
        assert "migrate-from-aibrix" in str(raised.value)


class OldOrClosed:
    """A cluster of a version, which shows nothing to us."""

    def __init__(self, version: str) -> None:
        self._version = version

    async def server_version(self) -> str:
        return self._version

    async def get_raw(self, data: Any) -> dict[str, Any]:
        raise Forbidden(403, "Forbidden", "no")

    async def list_raw(self, api_version: str, kind: str) -> list[dict[str, Any]]:
        raise Forbidden(403, "Forbidden", f"no {kind}")

    async def apply_raw(self, data: Any, *, field_manager: str, is_dry_run: bool) -> dict[str, Any]:
        raise Forbidden(403, "Forbidden", "no")


async def test_an_old_cluster_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.29.*1\.30"):
        await check_cluster(OldOrClosed("v1.29.4"), NOW)


async def test_what_may_not_be_seen_is_said_and_not_guessed() -> None:
    checked = await check_cluster(OldOrClosed("v1.33.0"), NOW)
    assert checked.unseen == (
        "Deployments",
        "Leases",
        "MutatingWebhookConfigurations",
        "ValidatingWebhookConfigurations",
    )
    with pytest.raises(UsageError, match="Namespace/pybrix-system: no"):
        [text async for text in changes(OldOrClosed("v1.33.0"), manifests(), str)]
