"""Requests that write: create, update, patch, delete, and what pods and service accounts have besides."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.access.reviews import Reviews
from pybrix.cluster.apiserver.accounts import TokenRequests
from pybrix.cluster.apiserver.answers import json_answer
from pybrix.cluster.apiserver.failures import bad_request, method_not_allowed, unsupported_media_type
from pybrix.cluster.apiserver.negotiation import decode_body, decode_json, decode_yaml, duplicate_fields, media_type
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions, delete_options, list_options, write_options
from pybrix.cluster.apiserver.presentation import Presentation
from pybrix.cluster.apiserver.targets import Target
from pybrix.cluster.apiserver.users import User
from pybrix.kube.interface import PatchType

APPLY_MEDIA = ("application/apply-patch+yaml", "application/apply-patch+json")


class Writes:
    """Answers requests that write."""

    def __init__(self, objects: Objects, presentation: Presentation, tokens: TokenRequests, reviews: Reviews) -> None:
        self._objects = objects
        self._presentation = presentation
        self._tokens = tokens
        self._reviews = reviews

    def answer(self, request: web.BaseRequest, target: Target, user: User, body: bytes) -> web.Response:
        """Do what a request asks for.

        Raises:
            StatusError: it is refused.
        """
        served = target.served
        warnings = [served.deprecation] if served.deprecation else []
        match target.subresource, request.method:
            case (("binding" | "eviction" | "token"), method):
                if method != "POST":
                    raise method_not_allowed(method)
                return self._door(request, target, user, body)
            case "", "POST" if not target.name and target.namespace is not None and "create" in served.verbs:
                return self._create(request, target, user, body, warnings)
            case (("" | "status" | "scale" | "finalize"), "PUT") if target.name and "update" in served.verbs:
                sent, options = _body(request, body), _write_options(request, user, body, warnings)
                data = self._objects.replace(served, target.key, sent, options, target.subresource)
                return self._presentation.object(request, served, data, options.warnings)
            case (("" | "status" | "scale" | "finalize"), "PATCH") if target.name and "patch" in served.verbs:
                return self._patch(request, target, user, body, warnings)
            case "", "DELETE" if target.name and "delete" in served.verbs:
                return self._delete(request, target, user, body)
            case "", "DELETE" if (
                not target.name and target.namespace is not None and "deletecollection" in served.verbs
            ):
                return self._delete_collection(request, target, user, body)
        raise method_not_allowed(request.method)

    def _create(
        self, request: web.BaseRequest, target: Target, user: User, body: bytes, warnings: list[str]
    ) -> web.Response:
        namespace = target.namespace
        assert namespace is not None
        sent, options = _body(request, body), _write_options(request, user, body, warnings)
        if self._reviews.answers(target.served):
            return json_answer(self._reviews.answer(target.served, namespace, sent, options), 201, options.warnings)
        if target.served.storage == "bindings":
            name = sent.get("metadata", {}).get("name", "") if isinstance(sent, dict) else ""
            return self._bind(ObjectKey(namespace, str(name)), sent, options)
        data = self._objects.create_object(target.served, namespace, sent, options)
        return self._presentation.object(request, target.served, data, options.warnings, 201)

    def _patch(
        self, request: web.BaseRequest, target: Target, user: User, body: bytes, warnings: list[str]
    ) -> web.Response:
        media = media_type(request.headers.get("Content-Type", ""))
        accepted = [str(t) for t in PatchType if not (target.served.is_custom and t is PatchType.STRATEGIC)]
        if media in APPLY_MEDIA:
            patch_type, patch = PatchType.APPLY, decode_yaml(body)
            if not request.query.get("fieldManager"):
                raise bad_request("PatchOptions.meta.k8s.io: fieldManager: Required value: is required for apply patch")
        elif media in accepted:
            patch_type, patch = PatchType(media), decode_json(body)
        else:
            raise unsupported_media_type(media, accepted)
        options = _write_options(request, user, body, warnings)
        if options.force and patch_type is not PatchType.APPLY:
            raise bad_request("PatchOptions.meta.k8s.io: force: Forbidden: may not be specified for non-apply patch")
        existed = self._objects.store.get(target.served.storage, target.key) is not None
        data = self._objects.patch_object(target.served, target.key, patch_type, patch, options, target.subresource)
        return self._presentation.object(request, target.served, data, options.warnings, 200 if existed else 201)

    def _delete(self, request: web.BaseRequest, target: Target, user: User, body: bytes) -> web.Response:
        options = delete_options(request.query, _body(request, body), user)
        data, is_gone = self._objects.delete_object(target.served, target.key, options)
        if not is_gone or target.served.storage == "pods":
            return self._presentation.object(request, target.served, data, [])
        details = {
            "name": target.name,
            "group": target.served.group,
            "kind": target.served.plural,
            "uid": data["metadata"].get("uid", ""),
        }
        return json_answer(_success(details={k: v for k, v in details.items() if v}))

    def _delete_collection(self, request: web.BaseRequest, target: Target, user: User, body: bytes) -> web.Response:
        options = delete_options(request.query, _body(request, body), user)
        selected = list_options(request.query, target.served.selectable, target.served.conversion)
        gone = self._objects.delete_collection(target.served, target.namespace, selected, options)
        kind = {"kind": target.served.kind_of_list, "apiVersion": target.served.api_version}
        return json_answer({**kind, "metadata": {"resourceVersion": str(self._objects.store.revision)}, "items": gone})

    def _door(self, request: web.BaseRequest, target: Target, user: User, body: bytes) -> web.Response:
        sent = _body(request, body)
        match target.subresource:
            case "token":
                options = _write_options(request, user, body, [])
                return json_answer(self._tokens.answer(target.key, sent, options), 201)
            case "binding":
                return self._bind(target.key, sent, _write_options(request, user, body, []))
        given = sent.get("deleteOptions") if isinstance(sent, dict) else None
        self._objects.evict(target.key, sent, delete_options(request.query, given, user))
        return json_answer(_success(code=201), 201)

    def _bind(self, key: ObjectKey, sent: Any, options: WriteOptions) -> web.Response:
        self._objects.bind(key, sent, options)
        return json_answer(_success(code=201), 201)


def _success(**more: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", **more}


def _write_options(request: web.BaseRequest, user: User, body: bytes, warnings: list[str]) -> WriteOptions:
    """Return the options of a write whose body has been decoded."""
    options = write_options(request.query, request.headers.get("User-Agent", ""), user)
    options.warnings.extend(warnings)
    if options.field_validation != "Ignore":
        options.duplicates.extend(duplicate_fields(body, request.headers.get("Content-Type", "")))
    return options


def _body(request: web.BaseRequest, body: bytes) -> Any:
    return decode_body(body, request.headers.get("Content-Type", ""))
