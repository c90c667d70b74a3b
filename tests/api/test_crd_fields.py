"""Nothing that AIBrix's definitions have is missing in ours, or narrower but for what is listed here with a reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.crds import render_crd, root_schema
from pybrix.api.scheme import CUSTOM_KINDS
from tests.support.crdtable import Row, differences, find, paths, rows

DOC = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "custom-resources.md"
CLASSES = {cls.gvk.kind: cls for cls in CUSTOM_KINDS}
SCHEMAS = {kind: root_schema(cls) for kind, cls in CLASSES.items()}
ROWS = rows()

# "kind:path keyword" -> why it is narrower. Bounds that no real manifest reaches keep the rules within the cost budget
# of an API server; the others refuse what AIBrix accepts and then fails on.
COST_BOUNDS = (
    r"PodAutoscaler:spec\.(metricsSources|schedules) maxItems",
    r"PodAutoscaler:spec\.metricsSources\[\]\.(endpoint|path|port|targetMetric|targetValue) maxLength",
    r"PodAutoscaler:spec\.schedules\[\]\.daysOfWeek maxItems",
    r"PodAutoscaler:spec\.schedules\[\]\.(daysOfWeek\[\]|startTime|endTime|timezone|name) maxLength",
    r"PodAutoscaler:spec\.subTargetSelector\.roleName maxLength",
    r"ModelAdapter:spec\.(artifactURL|baseModel|schedulerName) maxLength",
    r"ModelClaim:spec\.(artifactURL|modelName) maxLength",
    r"KVCache:spec\.metadata\.(redis|etcd)\.externalConnection\.address maxLength",
    r"KVCache:spec\.service\.ports maxItems",
    r"KVCache:spec\.service\.type maxLength",
    r"\w+:spec\.(template\.spec\.)?roles maxItems",
    r"\w+:spec\.(template\.spec\.)?roles\[\]\.name maxLength",
    r"\w+:\S*template\.metadata\.labels maxProperties",
    r"\w+:\S*template\.metadata\.labels\{\} maxLength",
)
NARROWER = {
    r"\w+:\S*(replicas|[mM]inReplicas|minReadySeconds|progressDeadlineSeconds|revisionHistoryLimit) minimum": (
        "a negative number of pods, seconds or revisions means nothing"
    ),
    r"PodAutoscaler:spec\.(schedules\[\]\.)?maxReplicas minimum": "the webhook refuses it",
    r"PodAutoscaler:spec\.schedules\[\]\.(daysOfWeek\[\]|timezone) pattern": "the webhook refuses others",
    r"PodAutoscaler:spec\.metricsSources\[\]\.targetMetric minLength": "no metric has an empty name",
    r"PodAutoscaler:spec\.schedules x-kubernetes-list-(type|map-keys)": "the webhook refuses a name used twice",
    r"\w+:\S*max(Surge|Unavailable) (minimum|pattern)": "what is neither a number nor a percentage fails every rollout",
    r"\w+:spec\.(template\.spec\.)?roles x-kubernetes-list-(type|map-keys)": "roles of one name fight over their pods",
    r"\w+:spec\.(template\.spec\.)?roles\[\]\.name pattern": "names of pods are made of it",
    r"KVCache:spec\.service\.ports x-kubernetes-list-(type|map-keys)": "no Service can have a port twice",
    r"KVCache:spec\.service\.ports\[\]\.port (minimum|maximum)": "no Service can have such a port",
    r"RayClusterFleet:spec\.strategy\.type enum": "with another type nothing would ever be rolled out",
    r"\w+:status\.conditions x-kubernetes-list-(type|map-keys)": "controllers write one condition a type",
    r"\w+:status\.observedGeneration minimum": "generations are not negative",
}
WIDER = {
    "ModelAdapter:spec.replicas enum": "any number of pods, not only 1",
    "ModelClaim:spec.replicas maximum": "any number of pods, not only 1",
    "RoleSet:spec.roles[].name default": "a single role needs no name, and a list keyed by name needs a default",
    "RoleSet:spec.roles[].replicas default": "absent means 1, where AIBrix's controller ends in a nil pointer",
    "StormService:spec.replicas default": "absent means 1, where AIBrix's controller ends in a nil pointer",
    "StormService:spec.template.spec.roles[].name default": "as in RoleSet",
    "StormService:spec.template.spec.roles[].replicas default": "as in RoleSet",
}
NEW_FIELDS = {
    **{
        f"{kind}:status.observedGeneration": "says which spec the status is about"
        for kind in ("PodAutoscaler", "ModelAdapter", "ModelClaim", "KVCache", "RoleSet", "PodSet")
    },
    **{
        f"{kind}:status.conditions[].observedGeneration": "says which spec the condition is about"
        for kind in ("RayClusterFleet", "StormService", "RoleSet", "PodSet")
    },
    **{
        f"ModelAdapter:status.pods{path}": "says of each pod what is loaded there, and why not"
        for path in (
            "",
            "[]",
            "[].uid",
            "[].name",
            "[].state",
            "[].revision",
            "[].reason",
            "[].message",
            "[].attempts",
            "[].retryAt",
        )
    },
    **{
        f"{kind}:{path}.metadata.creationTimestamp": "Go programs write it as null"
        for kind, path in (
            ("StormService", "spec.template"),
            ("RoleSet", "spec.roles[].template"),
            ("PodSet", "spec.template"),
            ("RayClusterFleet", "spec.template"),
            ("RayClusterReplicaSet", "spec.template"),
            *(
                ("KVCache", f"spec.{part}.template")
                for part in ("cache", "watcher", "metadata.redis.runtime", "metadata.etcd.runtime")
            ),
        )
    },
    "RayClusterFleet:status.conditions[].lastUpdateMicroTime": "one shape of condition for all rollouts",
}
# Parts that the table names but does not spell out.
_SUMMARISED = re.compile(
    r"\w+:\S*(\.scaleTargetRef|\.podSelector|\.selector|SecretRef|\.env\[\]|\.resources|\.template\.spec)\..*"
)


def facts(kind: str, path: str) -> list[Row]:
    return [row for row in ROWS if row.kind == kind and row.path == path]


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 740
    assert {row.kind for row in ROWS} == set(CLASSES) - {"KVCachePool"}


@pytest.mark.parametrize("kind", sorted(set(CLASSES) - {"KVCachePool"}))
def test_no_field_is_missing_or_narrower(kind: str) -> None:
    allowed = re.compile("|".join([*COST_BOUNDS, *NARROWER]))
    found = [
        str(difference)
        for row in ROWS
        if row.kind == kind and not row.path.startswith("#")
        for difference in differences(row, SCHEMAS[kind])
        if difference.is_narrower and not allowed.fullmatch(str(difference))
    ]
    assert found == []


def test_what_is_listed_as_narrower_is_so() -> None:
    found = {
        str(difference)
        for row in ROWS
        if not row.path.startswith("#")
        for difference in differences(row, SCHEMAS[row.kind])
        if difference.is_narrower
    }
    stale = [pattern for pattern in (*COST_BOUNDS, *NARROWER) if not any(re.fullmatch(pattern, x) for x in found)]
    assert stale == []


def test_what_is_wider_is_so_on_purpose() -> None:
    found = {
        str(difference)
        for row in ROWS
        if not row.path.startswith("#")
        for difference in differences(row, SCHEMAS[row.kind])
        if not difference.is_narrower
    }
    assert found == set(WIDER)


def test_fields_beyond_the_table_are_listed() -> None:
    known = {f"{row.kind}:{row.path}" for row in ROWS}
    known |= {f"{kind}:{name}" for kind in CLASSES for name in ("apiVersion", "kind", "metadata", "metadata.name")}
    found = {
        f"{kind}:{path}" for kind, schema in SCHEMAS.items() if kind != "KVCachePool" for path in paths(schema)
    } - known
    assert {path for path in found if not _SUMMARISED.match(path)} == set(NEW_FIELDS)


NEW_SUBRESOURCES = {
    "RayClusterReplicaSet": {"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}}
}
"""Ways to change an object that upstream does not have; they take nothing away."""


@pytest.mark.parametrize("kind", sorted(set(CLASSES) - {"KVCachePool"}))
def test_names_subresources_and_columns_are_the_tables(kind: str) -> None:
    definition = render_crd(CLASSES[kind])["spec"]
    version = definition["versions"][0]
    (fact,) = facts(kind, "#")
    match = re.fullmatch(r"scope=(\S*) short=(\S*) subresources=(.*)", fact.text)
    assert match is not None
    assert (f"plural={definition['names']['plural']}", definition["scope"]) == (fact.type, match[1])
    assert ",".join(definition["names"].get("shortNames", ())) == match[2]
    assert version["subresources"] == json.loads(match[3]) | NEW_SUBRESOURCES.get(kind, {})


# These have no columns in the table: ours break nothing.
@pytest.mark.parametrize(
    "kind", sorted(set(CLASSES) - {"KVCachePool", "KVCache", "RayClusterFleet", "RayClusterReplicaSet"})
)
def test_printer_columns_are_the_tables(kind: str) -> None:
    version = render_crd(CLASSES[kind])["spec"]["versions"][0]
    want = [(row.type, row.required, row.text) for row in facts(kind, "#column")]
    got = [(column["name"], column["type"], column["jsonPath"]) for column in _columns(version)]
    assert got == want


def _columns(version: dict[str, Any]) -> list[dict[str, Any]]:
    return list(version.get("additionalPrinterColumns", ()))


def test_the_documentation_lists_every_added_bound() -> None:
    found = re.findall(r"^\| `(\S+)` \| `(\w+)` \| (\d+) \|", DOC.read_text(), re.MULTILINE)
    listed = {(path, keyword): int(value) for path, keyword, value in found}
    pattern = re.compile("|".join(COST_BOUNDS))
    used = set()
    for row in (row for row in ROWS if not row.path.startswith("#")):
        for difference in differences(row, SCHEMAS[row.kind]):
            if pattern.fullmatch(str(difference)):
                key = next(k for k in listed if row.path.endswith(k[0]) and k[1] == difference.keyword)
                node = find(SCHEMAS[row.kind], row.path)
                assert node is not None
                assert node.schema[difference.keyword] == listed[key], str(difference)
                used.add(key)
    assert used == set(listed)
