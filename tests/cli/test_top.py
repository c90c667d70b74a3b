"""`pybrix top`: the plain table, and the live one by textual's pilot."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from click.testing import CliRunner
from structlog.testing import capture_logs
from textual.widgets import DataTable, Static

from pybrix.api.config import GatewayConfiguration
from pybrix.cli.top import top as command
from pybrix.cli.top_live import TopApp
from pybrix.cli.top_view import Choice, read_top, render_top, summary_of
from pybrix.gateway.errors import BrainUnavailable
from tests.support.brains import BrainAddress, running_brain
from tests.support.gateway import make_pod
from tests.support.podapi import PodApi
from tests.support.topview import document_of, served_world


def shown(**choice: str) -> list[str]:
    return render_top(read_top(document_of(served_world()), Choice(**choice))).splitlines()


def test_the_table_says_load_cache_latency_errors_and_age() -> None:
    summary, _, head, *rows = [" ".join(line.split()) for line in shown()]
    assert summary == "brain 0a1b2c3d ready, view 0.4 s old, 3 requests in flight"
    assert head == "MODEL REQUESTS TOKENS KV HIT TTFT P50 TTFT P99 ENDED ERRORS AGE"
    model, *_ = rows
    name, requests, tokens, kv, hit, *times, ended, errors, age, unit = model.split()
    assert (name, requests, kv, hit, ended, errors, age, unit) == ("default/m", "3", "50%", "50%", "1", "0", "1.5", "s")
    assert int(tokens) > 0
    assert times[1::2] == ["ms", "ms"]
    assert [abs(float(each) - 200) < 30 for each in times[::2]] == [True, True]
    assert [row.split()[0] for row in rows] == ["default/m", "a", "b", "team/n", "c", "team/sleepy", "no"]
    assert rows[3].split()[1:] == ["0", "0", "-", "-", "-", "-", "1", "1", "-"]
    assert rows[-1].startswith("no endpoint: d: ")


@pytest.mark.parametrize(
    ("choice", "want"),
    [
        ({"model": "sleep"}, ["team/sleepy"]),
        ({"namespace": "team"}, ["team/n", "team/sleepy"]),
        ({"model": "m", "namespace": "team"}, []),
        ({"sort": "errors"}, ["team/n", "default/m", "team/sleepy"]),
        ({"sort": "kv"}, ["default/m", "team/n", "team/sleepy"]),
        ({"sort": "requests"}, ["default/m", "team/n", "team/sleepy"]),
    ],
)
def test_what_is_shown_and_in_which_order(choice: dict[str, str], want: list[str]) -> None:
    found = read_top(document_of(served_world()), Choice(**choice))
    assert [f"{model.namespace}/{model.model}" for model in found.models] == want


def test_endpoints_are_sorted_as_well() -> None:
    found = read_top(document_of(served_world()), Choice(sort="kv"))
    assert [row.pod for row in found.models[0].endpoints] == ["b", "a"]


def test_no_model_is_said() -> None:
    assert shown(model="nothing")[-1] == "No models."


@pytest.mark.parametrize(
    ("age_s", "source", "want"),
    [
        (None, "persisted", "the Kubernetes API was never reached from persisted"),
        (30.0, "api", "view 30.0 s old (stale),"),
    ],
)
def test_the_age_of_the_view_is_said(age_s: float | None, source: str, want: str) -> None:
    document = document_of(served_world())
    document["view"] |= {"contactAgeS": age_s, "source": source}
    assert want in summary_of(read_top(document, Choice()))


class Source:
    """Answers with a document until told that the brain is away."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = document_of(served_world())
        self.is_away = False
        self.asked = asyncio.Event()

    async def fetch(self) -> Any:
        self.asked.set()
        if self.is_away:
            raise BrainUnavailable(Path("/run/brain-admin.sock"))
        return self.document


def summary_text(app: TopApp) -> str:
    return str(app.query_one("#summary", Static).render())


def names(app: TopApp) -> list[str]:
    table: DataTable[Any] = app.query_one(DataTable)
    return [str(table.get_row_at(place)[0]).strip() for place in range(table.row_count)]


async def test_the_live_view_follows_the_brain_and_says_when_it_is_away() -> None:
    source = Source()
    app = TopApp(source.fetch, Choice(), 3600)
    async with app.run_test(size=(140, 30)):
        assert names(app)[0] == "default/m"
        assert "3 requests in flight" in summary_text(app)

        source.is_away = True
        await app.refresh_view()
        assert "no brain answers on /run/brain-admin.sock" in summary_text(app)
        assert names(app)[0] == "default/m", "the last view stays"

        source.is_away = False
        source.document["models"] = source.document["models"][1:]
        await app.refresh_view()
        assert names(app)[0] == "team/n"
        assert "brain 0a1b2c3d ready" in summary_text(app)


async def test_the_live_view_asks_by_itself() -> None:
    source = Source()
    app = TopApp(source.fetch, Choice(), 0.01)
    async with app.run_test(size=(140, 30)):
        source.asked.clear()
        async with asyncio.timeout(60):
            await source.asked.wait()


async def test_keys_sort_filter_and_quit() -> None:
    app = TopApp(Source().fetch, Choice(), 3600)
    async with app.run_test(size=(140, 30)) as pilot:
        for _ in range(6):
            await pilot.press("s")
        assert "sorted by errors" in summary_text(app)
        assert names(app)[0] == "team/n"
        await pilot.press("slash", "s", "l", "e", "enter")
        assert names(app)[0] == "team/sleepy"
        assert "model sle" in summary_text(app)
        await pilot.press("q")
    assert app.return_code == 0


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ex") as name:
        yield Path(name)


@pytest_asyncio.fixture
async def brain(place: Path) -> AsyncIterator[BrainAddress]:
    address = BrainAddress(place / "run", place / "gateway")
    # The brain of this process would log into the output of the command.
    with capture_logs():
        async with running_brain(address, PodApi(make_pod("a")), GatewayConfiguration()):
            yield address


async def test_once_prints_what_a_real_brain_says(brain: BrainAddress) -> None:
    await brain.decide()
    where = ["--run-dir", str(brain.run_dir)]
    text = await asyncio.to_thread(CliRunner().invoke, command, where)
    assert text.exit_code == 0, text.output
    assert text.output.splitlines()[3].split()[:2] == ["default/m", "1"]
    found = await asyncio.to_thread(CliRunner().invoke, command, [*where, "--once", "-o", "json"])
    document = msgspec.json.decode(found.output)
    assert document["models"][0]["endpoints"][0]["requestsInFlight"] == 1
    assert document["isReady"] is True


def test_without_a_brain_there_is_one_sentence(place: Path) -> None:
    got = CliRunner().invoke(command, ["--run-dir", str(place)])
    assert isinstance(got.exception, BrainUnavailable)
    assert "\n" not in str(got.exception)
