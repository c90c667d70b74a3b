"""What Envoy is told of a view."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pybrix.api.config import GatewayConfiguration
from pybrix.api.identity import Uid
from pybrix.envoy import replies
from pybrix.envoy.clusters import endpoints_file_name
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.wire import ModelCluster
from pybrix.envoy.xds import XdsFiles, XdsRenderer, render_xds
from pybrix.gateway.view.snapshot import apply, build_view
from pybrix.gateway.xds import XdsPublisher, cluster_of, clusters_of, follow_clusters
from tests.support.gateway import facts, slice_facts

PATHS = EnvoyPaths(Path("/run/pybrix"), Path("/var/lib/pybrix"))
CONFIG = GatewayConfiguration()


def test_an_adapter_is_a_cluster_of_its_own_that_names_its_base_model() -> None:
    view = build_view([facts("a", uid="u1", ip="127.64.0.1")], [slice_facts("lora", "u1")])
    base, adapter = (cluster_of(view.models[key]) for key in sorted(view.models, reverse=True))
    assert (base.name, base.parent, adapter.name, adapter.parent) == ("default/m", "", "default/lora", "m")
    assert adapter.endpoints == base.endpoints
    assert adapter.endpoints[0].address == "127.64.0.1"


def test_unchanged_models_are_the_same_objects_all_the_way() -> None:
    renderer = XdsRenderer(CONFIG, PATHS)
    pods = [facts(f"p{n}", uid=f"u{n}", model=f"m{n % 3}", ip=f"127.64.0.{n}") for n in range(1, 10)]
    view = build_view(pods, [slice_facts("lora", "u3")])
    known = follow_clusters(view)
    assert tuple(cluster for _, cluster in known.values()) == clusters_of(view)
    files = renderer.render([cluster for _, cluster in known.values()])
    changed = facts("p1", uid="u1", model="m1", ip="127.64.0.1", ready=False)
    after = follow_clusters(apply(view, {Uid("u1"): changed}), known)
    assert [k.model for k in after if after[k][1] is not known[k][1]] == ["m1"]
    now = renderer.render([cluster for _, cluster in after.values()])
    assert [name for name in now if now[name] is not files[name]] == [endpoints_file_name("default/m1")]
    assert now == render_xds(CONFIG, [cluster for _, cluster in after.values()], PATHS)


def test_models_that_come_and_go_render_nothing_of_the_others() -> None:
    renderer = XdsRenderer(CONFIG, PATHS)
    some = [ModelCluster("default", name) for name in "abc"]
    before = renderer.render(some)
    more = [*some, ModelCluster("default", "lora", parent="a")]
    after = renderer.render(more)
    assert [n for n in before if after[n] is not before[n]] == [PATHS.clusters.name, PATHS.routes.name]
    assert after == render_xds(CONFIG, more, PATHS)
    assert renderer.render(some) == before


def test_what_is_written_follows_the_view_and_a_full_disk() -> None:
    written: list[Sequence[ModelCluster]] = []
    is_full = False

    def write(clusters: Sequence[ModelCluster]) -> None:
        if is_full:
            raise OSError(28, "No space left on device")
        written.append(clusters)

    publisher = XdsPublisher(write)
    view = build_view([facts("a")])
    assert publisher.publish(view)
    assert publisher.publish(view)
    assert len(written) == 1
    is_full = True
    larger = apply(view, {Uid("u2"): facts("b", uid="u2", ip="127.64.0.2")})
    assert not publisher.publish(larger)
    assert not publisher.is_written
    is_full = False
    assert publisher.publish(larger)
    assert [len(each[0].endpoints) for each in written] == [1, 2]


def routes_of(files: XdsFiles) -> str:
    return files[PATHS.routes.name].decode()


def test_a_list_of_models_names_the_parent_of_an_adapter() -> None:
    models = [ModelCluster("one", "m"), ModelCluster("one", "lora", parent="m")]
    said = routes_of(render_xds(CONFIG, models, PATHS))
    entry = json.dumps(json.dumps(replies.model_entry("lora", "m")))[1:-1]
    assert said.count(entry) == 3, "in the list of all, and in its namespace's by path and by header"
    assert '"models":{"one":{"lora":"m","m":true},"":{"lora":"m","m":true}}' in said
