"""What `pybrix status` advises where nobody watches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybrix.local.layout import Layout
from pybrix.local.overview import gather_overview
from pybrix.local.state import ProcessRecord, UpState

GONE = ProcessRecord(2**22, 1.0)


@pytest.mark.parametrize(
    ("has_processes", "advice"),
    [
        pytest.param(True, "upgrade --only supervisor --data-dir {root}", id="what runs is watched again"),
        pytest.param(False, "start them with `pybrix up --data-dir {root}`", id="what does not is started"),
    ],
)
async def test_what_to_do_where_nobody_watches(tmp_path: Path, has_processes: bool, advice: str) -> None:
    layout = Layout(tmp_path)
    layout.create()
    record = ProcessRecord.of(os.getpid()) if has_processes else GONE
    state = UpState(
        GONE, "http://127.0.0.1:1", str(layout.kubeconfig), str(layout.run_dir), processes={"cluster": record}
    )
    overview = await gather_overview(layout, state)
    assert not overview.supervised
    assert advice.format(root=tmp_path) in overview.problems[0]
