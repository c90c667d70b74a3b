"""Jobs with real processes, as kubectl sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.batch import Job, UncountedPods
from pybrix.api.core import Pod
from tests.support.apiserver import KUBECTL
from tests.support.wholecluster import whole_cluster

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")


def job(name: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "local/sh", "command": ["/bin/sh", "-c", script]}
    template = {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


async def test_jobs_run_count_fail_and_go(tmp_path: Path) -> None:
    async with whole_cluster(tmp_path) as cluster:
        kubectl = cluster.kubectl
        indexed = {"completions": 3, "parallelism": 2, "completionMode": "Indexed"}
        await cluster.apply(
            job("squares", "echo $((JOB_COMPLETION_INDEX * JOB_COMPLETION_INDEX))", **indexed),
            job("broken", "echo no >&2; exit 3", backoffLimit=0),
            job("long", "sleep 1000", activeDeadlineSeconds=1),
            job("brief", "true", ttlSecondsAfterFinished=0),
            job("held", "sleep 1000", suspend=True),
        )
        await kubectl("create", "job", "made", "--image=local/sh", "--", "/bin/echo", "made")
        await kubectl("wait", "--for=condition=complete", "job/squares", "job/made", "--timeout=50s")
        await kubectl("wait", "--for=condition=failed", "job/broken", "job/long", "--timeout=50s")
        squares = await cluster.until(Job, "squares", lambda j: bool(j.status.completion_time))
        assert (squares.status.succeeded, squares.status.completed_indexes) == (3, "0-2")
        assert squares.status.uncounted_terminated_pods in (None, UncountedPods())
        logs = await kubectl("logs", "-l", "job-name=squares", "--tail=1")
        assert sorted(logs.split()) == ["0", "1", "4"]
        reasons = {
            name: (await cluster.until(Job, name, lambda j: True)).status.conditions[-1].reason
            for name in ("broken", "long")
        }
        assert reasons == {"broken": "BackoffLimitExceeded", "long": "DeadlineExceeded"}
        table = {line.split()[0]: line.split()[1:3] for line in (await kubectl("get", "jobs")).splitlines()}
        assert table["squares"] == ["Complete", "3/3"]
        assert table["broken"] == ["Failed", "0/1"]
        assert table["held"] == ["Suspended", "0/1"]

        async def is_gone() -> bool:
            return await cluster.find(Job, "brief") is None

        await cluster.eventually(is_gone)
        await kubectl("patch", "job", "held", "-p", json.dumps({"spec": {"suspend": False}}))
        held = await cluster.until(Job, "held", lambda j: j.status.ready == 1)
        assert held.status.active == 1
        # Its pod is let go of with it, though it has a finalizer.
        await kubectl("delete", "job", "held")

        async def has_no_pods() -> bool:
            pods = (await cluster.client.list(Pod, "default", label_selector="job-name=held")).items
            return not pods

        await cluster.eventually(has_no_pods)


async def test_indexes_fail_each_for_itself_and_some_are_enough(tmp_path: Path) -> None:
    indexed = {"completions": 3, "parallelism": 3, "completionMode": "Indexed"}
    leader = {"rules": [{"succeededIndexes": "0"}]}
    codes = {"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}]}
    async with whole_cluster(tmp_path) as cluster:
        await cluster.apply(
            job("led", '[ "$JOB_COMPLETION_INDEX" = 0 ] || exec sleep 1000', successPolicy=leader, **indexed),
            job(
                "partly",
                '[ "$JOB_COMPLETION_INDEX" != 1 ] || exit 42',
                backoffLimitPerIndex=3,
                podFailurePolicy=codes,
                **indexed,
            ),
            job("strange", "true", managedBy="example.com/somebody"),
        )
        led = await cluster.until(Job, "led", lambda j: bool(j.status.completion_time))
        assert (led.status.completed_indexes, led.status.conditions[-1].reason) == ("0", "SuccessPolicy")
        partly = await cluster.until(Job, "partly", lambda j: any(c.type == "Failed" for c in j.status.conditions))
        assert (partly.status.completed_indexes, partly.status.failed_indexes) == ("0,2", "1")
        assert partly.status.conditions[-1].reason == "FailedIndexes"
        strange = await cluster.until(Job, "strange", lambda j: True)
        assert strange.status.start_time is None
