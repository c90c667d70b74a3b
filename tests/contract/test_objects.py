"""Creating, reading, updating, patching and deleting objects.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio

from tests.support.contract import JSON_PATCH, STRATEGIC, Api, config_map, deployment, pod

APPS = {"group": "apps"}


async def test_created_object_has_identity_and_version(api: Api) -> None:
    made = await api.create(api.at("configmaps"), config_map("a", x="1"))
    assert made.code == 201
    metadata = made.body["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["creationTimestamp"].endswith("Z")
    got = await api.get(api.at("configmaps", "a"))
    assert (got.code, got.body["data"], got.body["metadata"]["uid"]) == (200, {"x": "1"}, metadata["uid"])


async def test_second_object_of_a_name_is_refused(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a"))
    again = await api.create(api.at("configmaps"), config_map("a"))
    assert (again.code, again.reason, again.body["kind"]) == (409, "AlreadyExists", "Status")
    assert again.body["message"] == 'configmaps "a" already exists'


async def test_missing_object_is_a_status_that_names_it(api: Api) -> None:
    got = await api.get(api.at("deployments", "nope", **APPS))
    assert (got.code, got.reason) == (404, "NotFound")
    assert got.body["message"] == 'deployments.apps "nope" not found'
    assert got.body["details"] == {"name": "nope", "group": "apps", "kind": "deployments"}


async def test_missing_namespace_refuses_objects(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
    made = await api.create("/api/v1/namespaces/surely-not-there/configmaps", config_map("a"))
    assert (made.code, made.body["message"]) == (404, 'namespaces "surely-not-there" not found')


async def test_generated_name_has_the_prefix_and_differs_each_time(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}}
    names = [(await api.create(api.at("configmaps"), body)).body["metadata"]["name"] for _ in range(3)]
    assert all(name.startswith("run-") and len(name) == 9 for name in names)
    assert len(set(names)) == 3


async def test_wrong_name_is_invalid_with_its_cause(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
    made = await api.create(api.at("configmaps"), config_map("Not_A_Name"))
    assert (made.code, made.reason) == (422, "Invalid")
    assert [c["field"] for c in made.body["details"]["causes"]] == ["metadata.name"]


async def test_update_needs_the_version_that_was_read(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
    first = (await api.create(api.at("configmaps"), config_map("a", x="1"))).body
    changed = await api.put(api.at("configmaps", "a"), {**first, "data": {"x": "2"}})
    assert changed.code == 200
    assert changed.body["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    stale = await api.put(api.at("configmaps", "a"), {**first, "data": {"x": "3"}})
    assert (stale.code, stale.reason) == (409, "Conflict")
    assert "the object has been modified" in stale.body["message"]


async def test_update_that_changes_nothing_makes_no_new_version(api: Api) -> None:
    first = (await api.create(api.at("configmaps"), config_map("a", x="1"))).body
    same = await api.put(api.at("configmaps", "a"), first)
    assert same.body["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_merge_patch_sets_and_removes(api: Api) -> None:
    # https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
    await api.create(api.at("configmaps"), config_map("a", x="1", y="2"))
    patched = await api.patch(api.at("configmaps", "a"), {"data": {"x": None, "z": "3"}})
    assert (patched.code, patched.body["data"]) == (200, {"y": "2", "z": "3"})


async def test_merge_patch_with_an_old_version_is_a_conflict(api: Api) -> None:
    first = (await api.create(api.at("configmaps"), config_map("a"))).body
    await api.patch(api.at("configmaps", "a"), {"data": {"x": "1"}})
    version = {"resourceVersion": first["metadata"]["resourceVersion"]}
    late = await api.patch(api.at("configmaps", "a"), {"metadata": version, "data": {"x": "2"}})
    assert (late.code, late.reason) == (409, "Conflict")


async def test_json_patch_applies_all_or_nothing(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a", x="1"))
    good = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "replace", "path": "/data/x", "value": "2"}]
    assert (await api.patch(api.at("configmaps", "a"), good, JSON_PATCH)).body["data"] == {"x": "2"}
    failing = [{"op": "remove", "path": "/data/x"}, {"op": "test", "path": "/metadata/name", "value": "b"}]
    assert (await api.patch(api.at("configmaps", "a"), failing, JSON_PATCH)).code == 422
    assert (await api.get(api.at("configmaps", "a"))).body["data"] == {"x": "2"}


async def test_strategic_patch_finds_containers_by_name(api: Api) -> None:
    # https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
    await api.create(api.at("deployments", **APPS), deployment("web"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox:1"}]}}}}
    patched = await api.patch(api.at("deployments", "web", **APPS), patch, STRATEGIC)
    containers = patched.body["spec"]["template"]["spec"]["containers"]
    assert sorted(c["name"] for c in containers) == ["main", "side"]
    gone = {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}
    patched = await api.patch(api.at("deployments", "web", **APPS), gone, STRATEGIC)
    assert [c["name"] for c in patched.body["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_unknown_patch_format_is_refused(api: Api) -> None:
    await api.create(api.at("configmaps"), config_map("a"))
    assert (await api.patch(api.at("configmaps", "a"), {}, "text/plain")).code == 415


async def test_generation_counts_changes_of_the_spec_only(api: Api) -> None:
    # https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
    path = api.at("deployments", "web", **APPS)
    made = await api.create(api.at("deployments", **APPS), deployment("web"))
    assert made.body["metadata"]["generation"] == 1
    labelled = await api.patch(path, {"metadata": {"labels": {"a": "b"}}})
    assert labelled.body["metadata"]["generation"] == 1
    changed = await api.patch(path, {"spec": {"minReadySeconds": 5}})
    assert changed.body["metadata"]["generation"] == 2


async def test_status_is_written_through_its_own_door_only(api: Api) -> None:
    # https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#status-subresource
    await api.create(api.at("pods"), pod("p"))
    ignored = await api.patch(api.at("pods", "p"), {"status": {"message": "no"}})
    assert "message" not in ignored.body["status"]
    written = await api.patch(api.at("pods", "p", "status"), {"status": {"message": "yes"}, "spec": {"hostname": "x"}})
    assert (written.code, written.body["status"]["message"]) == (200, "yes")
    assert "hostname" not in written.body["spec"]


async def test_scale_reads_and_writes_replicas(api: Api) -> None:
    await api.create(api.at("deployments", **APPS), deployment("web"))
    scale = await api.get(api.at("deployments", "web", "scale", **APPS))
    assert (scale.body["kind"], scale.body["spec"].get("replicas", 0)) == ("Scale", 0)
    assert scale.body["status"]["selector"] == "app=web"
    # A template that nothing can schedule, so that a real cluster starts no pods either.
    gate = {"spec": {"template": {"spec": {"schedulingGates": [{"name": "pybrix.ai/contract"}]}}}}
    await api.patch(api.at("deployments", "web", **APPS), gate, STRATEGIC)
    await api.patch(api.at("deployments", "web", "scale", **APPS), {"spec": {"replicas": 2}})
    assert (await api.get(api.at("deployments", "web", **APPS))).body["spec"]["replicas"] == 2


async def test_dry_run_answers_but_stores_nothing(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
    made = await api.create(api.at("configmaps"), config_map("a"), dryRun="All")
    assert (made.code, made.body["metadata"]["name"]) == (201, "a")
    assert (await api.get(api.at("configmaps", "a"))).code == 404
    await api.create(api.at("configmaps"), config_map("b"))
    assert (await api.delete(api.at("configmaps", "b"), dryRun="All")).code == 200
    assert (await api.get(api.at("configmaps", "b"))).code == 200


async def test_unknown_fields_are_refused_or_warned_of_or_ignored(api: Api) -> None:
    # https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation
    body = {**config_map("a"), "dta": {"x": "1"}}
    strict = await api.create(api.at("configmaps"), body, fieldValidation="Strict")
    assert strict.code == 400
    assert 'unknown field "dta"' in strict.body["message"]
    warned = await api.create(api.at("configmaps"), body, fieldValidation="Warn")
    assert warned.code == 201
    assert "unknown field" in warned.headers["Warning"]
    assert "dta" not in warned.body
    ignored = await api.create(api.at("configmaps"), {**body, "metadata": {"name": "b"}}, fieldValidation="Ignore")
    assert (ignored.code, ignored.headers.get("Warning")) == (201, None)


async def test_wrong_type_is_a_bad_request(api: Api) -> None:
    body = deployment("web")
    body["spec"]["replicas"] = "three"
    made = await api.create(api.at("deployments", **APPS), body)
    assert (made.code, made.reason) == (400, "BadRequest")


async def test_finalizer_holds_the_object_until_it_is_removed(api: Api) -> None:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
    body = config_map("a")
    body["metadata"]["finalizers"] = ["pybrix.ai/contract"]
    await api.create(api.at("configmaps"), body)
    marked = await api.delete(api.at("configmaps", "a"))
    assert marked.code == 200
    held = await api.get(api.at("configmaps", "a"))
    assert held.body["metadata"]["deletionTimestamp"]
    late = await api.patch(api.at("configmaps", "a"), {"metadata": {"finalizers": ["pybrix.ai/contract", "x.y/z"]}})
    assert late.code == 422
    await api.patch(api.at("configmaps", "a"), {"metadata": {"finalizers": None}})
    assert (await api.get(api.at("configmaps", "a"))).code == 404


async def test_deletion_with_another_uid_is_a_conflict(api: Api) -> None:
    made = (await api.create(api.at("configmaps"), config_map("a"))).body
    wrong = {"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}}
    assert (await api.delete(api.at("configmaps", "a"), wrong)).code == 409
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}
    gone = await api.delete(api.at("configmaps", "a"), right)
    assert (gone.code, gone.body["status"]) == (200, "Success")
    assert gone.body["details"]["uid"] == made["metadata"]["uid"]


async def test_collection_is_deleted_as_selected(api: Api) -> None:
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        await api.create(api.at("configmaps"), config_map(name, {"tier": tier}))
    assert (await api.delete(api.at("configmaps"), labelSelector="tier=x")).code == 200
    left = await api.get(api.at("configmaps"), labelSelector="tier")
    assert [o["metadata"]["name"] for o in left.body["items"]] == ["c"]


async def test_concurrent_updates_of_one_version_have_one_winner(api: Api) -> None:
    first = (await api.create(api.at("configmaps"), config_map("a"))).body
    answers = await asyncio.gather(
        *(api.put(api.at("configmaps", "a"), {**first, "data": {"n": str(n)}}) for n in range(8))
    )
    assert sorted(a.code for a in answers) == [200] + [409] * 7


async def test_nobody_is_let_in_without_credentials(api: Api) -> None:
    # https://kubernetes.io/docs/reference/access-authn-authz/authentication/
    refused = await api.request("GET", api.at("configmaps"), is_anonymous=True)
    assert refused.code in (401, 403)
    assert refused.body["kind"] == "Status"
    assert (await api.request("GET", "/readyz", is_anonymous=True)).code == 200
