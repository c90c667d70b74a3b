"""The cluster that the contract is checked on: the embedded API server, or any other with `--kubeconfig FILE`.

The suite talks HTTP and nothing else, as the documentation describes the API; each case names its page. It needs no
controller but the namespace lifecycle of its own objects, and leaves nothing behind but terminating namespaces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.apiserver import running_api_server
from tests.support.contract import Api, connect


@pytest.fixture
async def api(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """A client of the cluster, with a namespace of its own."""
    given = request.config.getoption("--kubeconfig")
    if given:
        async with connect(Path(given)) as api:
            yield api
        return
    async with running_api_server(tmp_path) as server, connect(server.kubeconfig) as api:
        yield api
