"""The cluster that the contract is checked on: one of our own, or any other with `--kubeconfig FILE`.

The suite talks HTTP and runs kubectl, as the documentation describes the API; each case names its page. It needs the
controllers that every control plane has and no node, and leaves nothing behind: what it makes is in namespaces of its
own, or deleted by the case that made it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.contract import Api, Kubectl, connect
from tests.support.controlplane import ControlPlane


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Our own cluster; started once for all cases."""
    own = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    own.start()
    yield own
    own.kill()


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--kubeconfig")
    if given:
        return Path(given)
    own: ControlPlane = request.getfixturevalue("control_plane")
    return own.kubeconfig


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    """A client of the cluster, with a namespace of its own."""
    async with connect(kubeconfig) as api:
        yield api


@pytest.fixture
def kubectl(kubeconfig: Path, api: Api) -> Kubectl:
    """The real kubectl, in the namespace of `api`."""
    return Kubectl(kubeconfig, api.namespace)


@pytest.fixture
def restart(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Kill the cluster and start it again; only our own can be."""
    if request.config.getoption("--kubeconfig"):
        pytest.skip("a cluster of somebody else is not restarted")
    own: ControlPlane = request.getfixturevalue("control_plane")

    def kill_and_start() -> None:
        own.kill()
        own.start()

    return kill_and_start
