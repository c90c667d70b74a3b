"""The words and numbers of `kubectl get`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pybrix.cluster.apiserver.tables.ages import age, human_duration
from pybrix.cluster.apiserver.tables.columns import LAYOUTS
from pybrix.cluster.apiserver.tables.jsonpath import BadPath, find
from pybrix.cluster.apiserver.tables.pods import pod_cells

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "want"),
    [
        (-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m"), (10_799, "179m"),
        (3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"), (9 * 3600, "9h"), (47 * 3600, "47h"), (49 * 3600, "2d1h"),
        (8 * 86400, "8d"), (700 * 86400, "700d"), (800 * 86400, "2y70d"), (4000 * 86400, "10y"),
    ],
)  # fmt: skip
def test_durations(seconds: float, want: str) -> None:
    assert human_duration(seconds) == want


def test_age_of_nothing_is_unknown() -> None:
    assert age(None, NOW) == "<unknown>"
    assert age("rubbish", NOW) == "<invalid>"
    assert age("2026-11-22T11:59:00Z", NOW) == "60s"


def container(name: str = "a", ready: bool = False, restarts: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


def pod(status: dict[str, Any], *, deleted: bool = False, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "p", "creationTimestamp": "2026-11-22T11:00:00Z"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-11-22T12:00:00Z"
    return {"metadata": metadata, "spec": {"containers": [{"name": "a"}], **spec}, "status": status}


CRASHED = {
    **container(restarts=3, waiting={"reason": "CrashLoopBackOff"}),
    "lastState": {"terminated": {"finishedAt": "2026-11-22T11:58:00Z"}},
}


@pytest.mark.parametrize(
    ("shown", "want"),
    [
        pytest.param(pod({"phase": "Pending"}), ["0/1", "Pending", "0"], id="pending"),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [container(ready=True, running={})]}),
            ["1/1", "Running", "0"],
            id="running",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [CRASHED]}),
            ["0/1", "CrashLoopBackOff", "3 (2m ago)"],
            id="crash loop",
        ),
        pytest.param(
            pod({"phase": "Running", "containerStatuses": [container(ready=True, running={})]}, deleted=True),
            ["1/1", "Terminating", "0"],
            id="terminating",
        ),
        pytest.param(
            pod({"phase": "Succeeded", "containerStatuses": [container(terminated={"reason": "Completed"})]}),
            ["0/1", "Completed", "0"],
            id="completed",
        ),
        pytest.param(
            pod({"phase": "Failed", "containerStatuses": [container(terminated={"signal": 9, "exitCode": 137})]}),
            ["0/1", "Signal:9", "0"],
            id="killed",
        ),
        pytest.param(
            pod(
                {"phase": "Pending", "initContainerStatuses": [container("i", running={})]},
                initContainers=[{"name": "i"}, {"name": "j"}],
            ),
            ["0/1", "Init:0/2", "0"],
            id="initialising",
        ),
        pytest.param(
            pod(
                {"phase": "Pending", "initContainerStatuses": [container("i", restarts=1, terminated={"exitCode": 2})]},
                initContainers=[{"name": "i"}],
            ),
            ["0/1", "Init:ExitCode:2", "1"],
            id="failing to initialise",
        ),
        pytest.param(
            pod({"phase": "Failed", "reason": "Evicted"}),
            ["0/1", "Evicted", "0"],
            id="reason before phase",
        ),
    ],
)
def test_pod_words(shown: dict[str, Any], want: list[str]) -> None:
    assert pod_cells(shown, NOW)[1:4] == want


def test_pod_places() -> None:
    shown = pod(
        {"phase": "Running", "podIPs": [{"ip": "127.64.0.1"}]}, nodeName="n", readinessGates=[{"conditionType": "x"}]
    )
    assert pod_cells(shown, NOW)[5:] == ["127.64.0.1", "n", "<none>", "0/1"]


def cells(resource: str, data: dict[str, Any]) -> list[Any]:
    layout = LAYOUTS[resource]
    made = layout.cells({"metadata": {"name": "x"}, **data}, NOW)
    assert len(made) == len(layout.columns)
    return made


def test_every_layout_has_a_cell_for_each_column() -> None:
    for resource in LAYOUTS:
        cells(resource, {})


def test_endpoint_slice_shows_three_and_how_many_more() -> None:
    data = {
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [f"10.0.0.{n}"]} for n in range(5)],
    }
    assert cells("endpointslices.discovery.k8s.io", data)[2:4] == ["80", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more..."]
    assert cells("endpointslices.discovery.k8s.io", {})[2:4] == ["<unset>", "<unset>"]


def test_node_roles_and_scheduling() -> None:
    data = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}},
    }
    assert LAYOUTS["nodes"].cells(data, NOW)[1:3] == ["Ready,SchedulingDisabled", "control-plane"]


def test_service_ports_and_addresses() -> None:
    spec = {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}]}
    assert cells("services", {"spec": spec})[1:5] == ["NodePort", "10.96.0.9", "<none>", "80:30000/TCP"]


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (".spec.n", [3]),
        ("spec.n", [3]),
        (".metadata.labels.a\\.b/c", ["x"]),
        (".metadata.labels['a.b/c']", ["x"]),
        (".list[0].v", [1]),
        (".list[-1].v", [2]),
        (".list[*].v", [1, 2]),
        ('.list[?(@.k=="two")].v', [2]),
        ('.list[?(@.k!="two")].v', [1]),
        (".nope.deeper", []),
        (".list[9]", []),
        (".spec[0]", []),
    ],
)
def test_printer_paths(path: str, want: list[Any]) -> None:
    data = {
        "spec": {"n": 3},
        "metadata": {"labels": {"a.b/c": "x"}},
        "list": [{"k": "one", "v": 1}, {"k": "two", "v": 2}],
    }
    assert find(path, data) == want


def test_path_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadPath):
        find(".a[?(@.b > 3)]", {})
