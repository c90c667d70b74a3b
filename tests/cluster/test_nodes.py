"""What `--nodes` understands, and what it says about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.cluster.nodes import GPU, GPU_PRODUCT, has_live_pods, parse_nodes, pod_directories, remembered_nodes


def test_nodes_have_labels_capacity_and_taints() -> None:
    nodes = parse_nodes("gpu=NVIDIA-A10:2, 2x gpu=NVIDIA-L20+zone=b+taint=dedicated=llm:NoSchedule, plain", "local")
    assert [n.name for n in nodes] == ["local", "local-2", "local-3", "local-4"]
    assert [n.capacity for n in nodes] == [{GPU: "2"}, {GPU: "1"}, {GPU: "1"}, {}]
    assert nodes[0].labels == {GPU_PRODUCT: "NVIDIA-A10"}
    assert nodes[1].labels == {GPU_PRODUCT: "NVIDIA-L20", "topology.kubernetes.io/zone": "b"}
    assert [(t.key, t.value, t.effect) for t in nodes[1].taints] == [("dedicated", "llm", "NoSchedule")]
    assert nodes[3].taints == ()


def test_labels_names_and_sizes_can_be_given() -> None:
    (node,) = parse_nodes("name=big+cpu=64+memory=512Gi+example.com/team=blue+region=eu", "local")
    assert node.name == "big"
    assert node.capacity == {"cpu": "64", "memory": "512Gi"}
    assert node.labels == {"example.com/team": "blue", "topology.kubernetes.io/region": "eu"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "names no nodes"),
        ("40x plain", "1 to 16"),
        ("fast", "'fast' in 'fast' is neither `plain` nor KEY=VALUE"),
        ("gpu=", "gpu=MODEL[:COUNT]"),
        ("gpu=A10:many", "gpu=MODEL[:COUNT]"),
        ("gpu=A10:0", "gpu=MODEL[:COUNT]"),
        ("cpu=lots", "'lots' is not a quantity"),
        ("taint=x:Sometimes", "taint=KEY[=VALUE]:EFFECT"),
        ("zone=a b", "is no label"),
        ("name=Big", "is no name of a node"),
        ("name=a,name=a", "two nodes have the same name"),
    ],
)
def test_what_cannot_be_understood_is_quoted(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_nodes(text, "local")
    assert part in str(caught.value)


def test_the_last_run_is_remembered(tmp_path: Path) -> None:
    assert remembered_nodes(tmp_path, None) == "plain"
    assert remembered_nodes(tmp_path, "2x plain") == "2x plain"
    assert remembered_nodes(tmp_path, None) == "2x plain"


def test_pods_of_every_node_count_as_running(tmp_path: Path) -> None:
    (tmp_path / "nodes" / "local-2" / "pods").mkdir(parents=True)
    assert pod_directories(tmp_path) == [tmp_path / "pods", tmp_path / "nodes" / "local-2" / "pods"]
    assert not has_live_pods(tmp_path)
