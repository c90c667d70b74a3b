"""What is rendered and written, without Envoy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import replies, wire
from pybrix.envoy.clusters import endpoints_file_name
from pybrix.envoy.files import XdsWriter
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.wire import ModelCluster, PodEndpoint
from pybrix.envoy.xds import XdsFiles, render_xds

PATHS = EnvoyPaths(Path("/run/pybrix"), Path("/var/lib/pybrix"))
CONFIG = GatewayConfiguration()


def pod(number: int) -> PodEndpoint:
    return PodEndpoint(f"127.64.0.{number}", 8000, f"uid-{number}", f"pod-{number}")


def model(name: str, *pods: int, namespace: str = "default") -> ModelCluster:
    return ModelCluster(namespace, name, tuple(pod(number) for number in pods))


def render(*models: ModelCluster) -> XdsFiles:
    return render_xds(CONFIG, models, PATHS)


def resource(files: XdsFiles, name: str) -> Any:
    return msgspec.json.decode(files[name])["resources"]


def test_a_change_of_models_never_changes_the_listener() -> None:
    few, many = render(), render(model("a", 1), model("b", 2), model("a", namespace="team"))
    assert few["listeners.json"] == many["listeners.json"]
    assert few["routes.json"] != many["routes.json"]


def test_a_change_of_endpoints_changes_one_file() -> None:
    before, after = render(model("a", 1), model("b", 1)), render(model("a", 1, 2), model("b", 1))
    assert [name for name in after if after[name] != before[name]] == [endpoints_file_name("default/a")]


models = st.lists(
    st.builds(
        ModelCluster,
        namespace=st.sampled_from(["default", "team"]),
        model=st.sampled_from(["a", "org/a:8b", "ü" * 90]),
        endpoints=st.lists(st.integers(1, 5).map(pod), unique=True, max_size=3).map(tuple),
    ),
    unique_by=lambda cluster: cluster.name,
)


@settings(max_examples=40)
@given(models, st.randoms(use_true_random=False))
def test_order_of_models_and_endpoints_does_not_matter(some: list[ModelCluster], chance: Any) -> None:
    shuffled = [
        dataclasses.replace(each, endpoints=tuple(chance.sample(each.endpoints, len(each.endpoints)))) for each in some
    ]
    chance.shuffle(shuffled)
    assert list(render(*some).items()) == list(render(*shuffled).items())


@settings(max_examples=40)
@given(models)
def test_only_clusters_that_exist_are_routed_to(some: list[ModelCluster]) -> None:
    files = render(*some)
    (routes,) = resource(files, "routes.json")
    matcher = routes["virtual_hosts"][0]["matcher"]
    claimed = matcher.get("matcher_tree", {"exact_match_map": {"map": {}}})["exact_match_map"]["map"]
    targets = {
        route["route"]["cluster"] for match in claimed.values() for route in match["action"]["typed_config"]["routes"]
    }
    assert targets == {cluster["name"] for cluster in resource(files, "clusters.json")} == {each.name for each in some}
    assert all((PATHS.xds_dir / name).name in files for name in map(endpoints_file_name, targets))
    homes = wire.namespaces_of(some)
    assert set(claimed) == targets | {f"/{name}" for name, spaces in homes.items() if len(spaces) == 1}


def test_files_of_endpoints_have_short_names_of_their_own() -> None:
    names = ["default/a", "default/a/b", "default/a%2Fb", "default/" + "x" * 300, "default/" + "x" * 301]
    files = {endpoints_file_name(name) for name in names}
    assert len(files) == len(names)
    assert all(len(file) < 250 and "/" not in file for file in files)


def test_the_writer_writes_what_differs_and_takes_away_what_is_gone(tmp_path: Path) -> None:
    writer = XdsWriter(tmp_path / "xds")
    first = render(model("a", 1), model("b", 1))
    assert writer.write(first) == tuple(first)
    assert writer.write(first) == ()
    assert writer.write(render(model("a", 2), model("b", 1))) == (endpoints_file_name("default/a"),)
    assert writer.write(render(model("b", 1))) == (
        "clusters.json",
        "routes.json",
        endpoints_file_name("default/a"),
    )
    assert sorted(path.name for path in (tmp_path / "xds").iterdir()) == sorted(render(model("b", 1)))


def test_a_new_writer_takes_over_what_is_there(tmp_path: Path) -> None:
    files = render(model("a", 1))
    XdsWriter(tmp_path).write(files)
    assert XdsWriter(tmp_path).write(files) == ()
    (tmp_path / "routes.json").write_bytes(b"")
    assert XdsWriter(tmp_path).write(files) == ("routes.json",)


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("/v1/completions", ("", "/v1/completions")),
        ("/namespaces/team/v1/completions?x=/y", ("team", "/v1/completions?x=/y")),
        ("/namespaces/team", ("team", "")),
        ("/namespaces//v1", ("", "/v1")),
    ],
)
def test_a_namespace_is_split_off_a_path(path: str, want: tuple[str, str]) -> None:
    assert wire.split_namespace(path) == want


def test_long_lists_of_names_are_cut() -> None:
    names = [f"m{number:02}" for number in range(25)]
    assert replies.listed_names(names).endswith("m19 and 5 more")
    assert replies.listed_names([]) == "none"
