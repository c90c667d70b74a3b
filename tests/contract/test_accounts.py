"""Service accounts: their tokens, who a client with one is, and what every pod gets of them.

https://kubernetes.io/docs/concepts/security/service-accounts/
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.support.contract import MERGE, Answer, Api, pod
from tests.support.waiting import until

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


async def token_request(api: Api, account: str = "default", **spec: Any) -> Answer:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return await api.create(api.at("serviceaccounts", account, "token"), body)


async def whoami(api: Api, token: str) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    async with api.anonymous.post(api.url + REVIEWS, json=REVIEW, headers=headers) as response:
        return Answer(response.status, await response.json())


async def until_refused(api: Api, token: str) -> None:
    """Wait until a token counts no more: a server may remember it for some seconds."""

    async def is_refused() -> bool:
        return (await whoami(api, token)).code == 401

    await until(is_refused)


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


async def test_a_token_says_who_its_holder_is(api: Api) -> None:
    # https://kubernetes.io/docs/reference/access-authn-authz/authentication/#service-account-tokens
    await api.ready()
    made = await token_request(api)
    assert made.code == 201, made.body
    user = (await whoami(api, made.body["status"]["token"])).body["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{api.namespace}:default"
    assert {"system:serviceaccounts", f"system:serviceaccounts:{api.namespace}", "system:authenticated"} <= set(
        user["groups"]
    )
    said = claims(made.body["status"]["token"])
    assert said["kubernetes.io"]["namespace"] == api.namespace
    assert said["exp"] - said["iat"] >= 600


async def test_a_token_for_others_is_no_token_here(api: Api) -> None:
    await api.ready()
    made = await token_request(api, audiences=["vault"])
    assert claims(made.body["status"]["token"])["aud"] == ["vault"]
    assert (await whoami(api, made.body["status"]["token"])).code == 401


async def test_a_changed_token_is_no_token(api: Api) -> None:
    await api.ready()
    token = (await token_request(api)).body["status"]["token"]
    head, body, signature = token.split(".")
    said = claims(token) | {"sub": "system:serviceaccount:kube-system:default"}
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    assert (await whoami(api, f"{head}.{forged}.{signature}")).code == 401
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    assert (await whoami(api, f"{unsigned}.{body}.")).code == 401


async def test_a_token_ends_with_its_account(api: Api) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "brief"}}
    await api.create(api.at("serviceaccounts"), account)
    token = (await token_request(api, "brief")).body["status"]["token"]
    assert (await whoami(api, token)).code == 201
    await api.delete(api.at("serviceaccounts", "brief"))
    # Another account of that name is not the same one.
    await api.create(api.at("serviceaccounts"), account)
    await until_refused(api, token)


async def test_a_token_ends_with_its_pod(api: Api) -> None:
    # https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
    await api.ready()
    uid = (await api.create(api.at("pods"), pod("p"))).body["metadata"]["uid"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
    wrong = await token_request(api, boundObjectRef={**reference, "uid": "another"})
    assert (wrong.code, wrong.reason) == (409, "Conflict")
    made = await token_request(api, boundObjectRef={**reference, "uid": uid})
    token = made.body["status"]["token"]
    assert claims(token)["kubernetes.io"]["pod"] == {"name": "p", "uid": uid}
    extra = (await whoami(api, token)).body["status"]["userInfo"]["extra"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    await api.delete(api.at("pods", "p"))
    await until_refused(api, token)


async def test_requests_for_tokens_are_checked(api: Api) -> None:
    await api.ready()
    short = await token_request(api, expirationSeconds=10)
    assert (short.code, short.body["details"]["causes"][0]["field"]) == (422, "spec.expirationSeconds")
    assert (await token_request(api, "nobody")).code == 404
    assert (await token_request(api, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "none"})).code == 404
    await api.create(
        api.at("serviceaccounts"), {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}}
    )
    await api.create(api.at("pods"), pod("p"))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
    assert (await token_request(api, "other", boundObjectRef=reference)).code in (400, 422)


def mounts(made: Answer) -> list[str]:
    assert made.code == 201, made.body
    return [m["mountPath"] for m in made.body["spec"]["containers"][0].get("volumeMounts", [])]


async def test_pods_get_a_token_unless_they_or_the_account_say_no(api: Api) -> None:
    # https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#opt-out-of-api-credential-automounting
    await api.ready()
    made = await api.create(api.at("pods"), pod("yes"))
    assert mounts(made) == [MOUNT_PATH]
    volume = made.body["spec"]["volumes"][0]
    token, authority, namespace = volume["projected"]["sources"]
    assert volume["name"] == made.body["spec"]["containers"][0]["volumeMounts"][0]["name"]
    assert token["serviceAccountToken"]["path"] == "token"
    assert authority["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    assert mounts(await api.create(api.at("pods"), pod("no", automountServiceAccountToken=False))) == []
    await api.patch(api.at("serviceaccounts", "default"), {"automountServiceAccountToken": False}, MERGE)

    async def is_account_heard() -> bool:
        return mounts(await api.create(api.at("pods"), {**pod(""), "metadata": {"generateName": "p-"}})) == []

    await until(is_account_heard)
    assert mounts(await api.create(api.at("pods"), pod("own", automountServiceAccountToken=True))) == [MOUNT_PATH]


async def test_a_pod_needs_its_account(api: Api) -> None:
    await api.ready()
    answer = await api.create(api.at("pods"), pod("p", serviceAccountName="nobody"))
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert 'serviceaccount "nobody" not found' in answer.body["message"]


async def test_what_every_namespace_has_comes_back(api: Api) -> None:
    await api.ready()
    for plural, name in (("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")):
        uid = (await api.get(api.at(plural, name))).body["metadata"]["uid"]
        await api.delete(api.at(plural, name))
        await api.ready()
        assert (await api.get(api.at(plural, name))).body["metadata"]["uid"] != uid


@pytest.mark.parametrize(
    ("name", "priority"), [("system-node-critical", 2_000_001_000), ("", 0)], ids=["a class", "no class"]
)
async def test_a_pod_has_the_priority_of_its_class(api: Api, name: str, priority: int) -> None:
    # https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
    await api.ready()
    made = await api.create(api.at("pods"), pod("p", **({"priorityClassName": name} if name else {})))
    assert made.code == 201, made.body
    assert made.body["spec"]["priority"] == priority
    missing = await api.create(api.at("pods"), pod("q", priorityClassName="no-such-class"))
    assert (missing.code, missing.reason) == (403, "Forbidden")
