"""What is chosen for a cluster counts until something else is: a restart does not open what roles had closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.local.components import cluster
from pybrix.local.layout import Layout
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


async def test_roles_are_enforced_until_somebody_chooses_otherwise(tmp_path: Path) -> None:
    choices: list[tuple[dict[str, str], str]] = [({"authorization": "rbac"}, "no"), ({}, "no")]
    for chosen, answer in [*choices, ({"authorization": "none"}, "yes")]:
        async with whole_cluster(tmp_path, **chosen) as it:
            said = await it.try_kubectl("auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:default")
            assert said.out.strip() == answer, said.err


def test_up_passes_on_what_was_chosen_and_nothing_else(tmp_path: Path) -> None:
    chosen = {"--nodes": None, "--authorization": "rbac", "--durability": "power"}
    command = cluster(Layout(tmp_path), 0, chosen).argv
    assert command[-4:] == ("--authorization", "rbac", "--durability", "power")
    assert "--nodes" not in command
