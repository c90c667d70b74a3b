"""What a server refuses in Jobs that count by index."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.cluster.apiserver.kinds.jobs import check_job, check_job_update, default_job

INDEXED: dict[str, Any] = {"completionMode": "Indexed", "completions": 4}
PER_INDEX: dict[str, Any] = {**INDEXED, "backoffLimitPerIndex": 1}
ON_CODE = {"operator": "In", "values": [42]}


def make_job(restart: str = "Never", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "v1"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": restart, "containers": [container]}}
    data: dict[str, Any] = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}}
    default_job(data)
    return data


def rules(*given: dict[str, Any]) -> dict[str, Any]:
    return {"successPolicy": {"rules": list(given)}}


def fields(data: dict[str, Any]) -> list[str]:
    return [cause.field for cause in check_job(data)]


@pytest.mark.parametrize(
    "spec",
    [
        PER_INDEX,
        {**PER_INDEX, "maxFailedIndexes": 4},
        {**PER_INDEX, "podFailurePolicy": {"rules": [{"action": "FailIndex", "onExitCodes": ON_CODE}]}},
        {**INDEXED, **rules({"succeededIndexes": "0,2-3", "succeededCount": 3})},
        {**INDEXED, **rules({"succeededCount": 4}, {"succeededIndexes": "3"})},
        {"managedBy": "kueue.x-k8s.io/multikueue"},
    ],
)
def test_accepted(spec: dict[str, Any]) -> None:
    assert fields(make_job(**spec)) == []


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex"),
        ({**PER_INDEX, "backoffLimitPerIndex": -1}, "spec.backoffLimitPerIndex"),
        ({**PER_INDEX, "restart": "OnFailure"}, "spec.template.spec.restartPolicy"),
        ({**INDEXED, "maxFailedIndexes": 1}, "spec.backoffLimitPerIndex"),
        ({**PER_INDEX, "maxFailedIndexes": 5}, "spec.maxFailedIndexes"),
        (
            {**INDEXED, "podFailurePolicy": {"rules": [{"action": "FailIndex", "onExitCodes": ON_CODE}]}},
            "spec.podFailurePolicy.rules[0].action",
        ),
        (rules({"succeededCount": 1}), "spec.successPolicy"),
        ({**INDEXED, **rules()}, "spec.successPolicy.rules"),
        ({**INDEXED, **rules(*[{"succeededCount": 1}] * 21)}, "spec.successPolicy.rules"),
        ({**INDEXED, **rules({})}, "spec.successPolicy.rules[0]"),
        ({**INDEXED, **rules({"succeededCount": 5})}, "spec.successPolicy.rules[0].succeededCount"),
        (
            {**INDEXED, **rules({"succeededIndexes": "0-1", "succeededCount": 3})},
            "spec.successPolicy.rules[0].succeededCount",
        ),
        *(
            ({**INDEXED, **rules({"succeededIndexes": text})}, "spec.successPolicy.rules[0].succeededIndexes")
            for text in ("", "4", "2-1", "1,1", "3,0", "a", "0-", "0,,1")
        ),
        *(({"managedBy": text}, "spec.managedBy") for text in ("", "me", "example.com/", "-/a", "a/" + "b" * 62)),
    ],
)
def test_refused(spec: dict[str, Any], want: str) -> None:
    assert fields(make_job(**spec)) == [want]


def test_the_limit_of_all_pods_is_none_where_indexes_have_their_own() -> None:
    assert make_job()["spec"]["backoffLimit"] == 6
    assert make_job(**PER_INDEX)["spec"]["backoffLimit"] == 2**31 - 1


@pytest.mark.parametrize(
    "change", [{"backoffLimitPerIndex": 2}, rules({"succeededCount": 1}), {"managedBy": "example.com/other"}]
)
def test_what_decides_how_it_ends_stays(change: dict[str, Any]) -> None:
    causes = check_job_update(make_job(**PER_INDEX), make_job(**PER_INDEX | change))
    assert [cause.field for cause in causes] == [f"spec.{next(iter(change))}"]
