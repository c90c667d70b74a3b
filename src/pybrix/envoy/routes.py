"""Routes: which requests go to the brain and which cluster a model is. Rendered anew when models come and go."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import replies, wire
from pybrix.envoy.listener import (
    AUTHORIZATION_FILTER,
    IDENTITY_FILTER,
    LUA_FILTER,
    MODELS_SCRIPT_NAME,
    ROUTES,
    USAGE_SCRIPT_NAME,
)
from pybrix.envoy.local_replies import header, retry_after
from pybrix.envoy.scripts import METADATA
from pybrix.envoy.wire import ModelCluster

Config = dict[str, Any]
Parents = defaultdict[str, dict[str, str]]

_TYPE = "type.googleapis.com/"
_BELOW_NAMESPACE = f"{wire.NAMESPACE_PREFIX}[^/]+"
_MAX_MODEL_LIST_BYTES = 64 * 1024 * 1024
# More than any ranked list is long; a retry happens only before the first byte of an answer.
_MAX_RETRIES = 6
_NO_DECISION: Config = {
    AUTHORIZATION_FILTER: {
        "@type": f"{_TYPE}envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
        "disabled": True,
    },
    LUA_FILTER: {"@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.LuaPerRoute", "disabled": True},
}


def render_claim(config: GatewayConfiguration, namespace: str, model: str) -> Config:
    """Return what a request meets whose cluster header names this model."""
    return _on_match(_model_routes(config, namespace, model))


def render_routes(
    config: GatewayConfiguration,
    models: Sequence[ModelCluster],
    claims: Mapping[str, object],
    users: Mapping[str, str] | None = None,
) -> Config:
    """Return the route configuration for the models, those without ready endpoints included.

    Args:
        claims: what `render_claim` makes of each model, by the name of its cluster; may be rendered already.
        users: names by the SHA-256 hash, in hex, of an API key; who has none of these keys is refused where keys are
            required.

    A request is routed twice. At first it has no cluster header and meets the plain list: an inference request goes on
    to the brain. The header that the brain (or the fallback) sets is then looked up in a map, so that only names made
    here can be reached, in the same time for one model and for a thousand.
    """
    homes = wire.namespaces_of(models)
    claimed = {cluster.name: claims[cluster.name] for cluster in models}
    for model, namespaces in homes.items():
        if len(namespaces) == 1:
            # What the fallback sets when the client names no namespace.
            claimed[wire.cluster_name("", model)] = claimed[wire.cluster_name(namespaces[0], model)]
    host: Config = {
        "name": ROUTES,
        "domains": ["*"],
        "matcher": {"on_no_match": _on_match(_unclaimed_routes(config, models, homes))},
        "retry_policy": _retry_policy(),
        "request_body_buffer_limit": config.body_limit_bytes,
        "response_headers_to_add": _response_headers(),
        # After the brain has seen them: no engine is shown the token.
        "request_headers_to_remove": list(wire.ADMIN_HEADERS),
    }
    if config.identity.is_api_key_required:
        host["typed_per_filter_config"] = {
            IDENTITY_FILTER: {
                "@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.LuaPerRoute",
                "filter_context": dict(sorted((users or {}).items())),
            }
        }
    if claimed:
        host["matcher"]["matcher_tree"] = {
            "input": _header_input(wire.CLUSTER_HEADER),
            "exact_match_map": {"map": claimed},
        }
    return {
        "name": ROUTES,
        "max_direct_response_body_size_bytes": _MAX_MODEL_LIST_BYTES,
        "virtual_hosts": [host],
    }


def _on_match(routes: list[Config]) -> Config:
    return {
        "action": {
            "name": "routes",
            "typed_config": {"@type": f"{_TYPE}envoy.config.route.v3.RouteList", "routes": routes},
        }
    }


def _header_input(name: str) -> Config:
    return {
        "name": name,
        "typed_config": {
            "@type": f"{_TYPE}envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": name,
        },
    }


def _model_routes(config: GatewayConfiguration, namespace: str, model: str) -> list[Config]:
    """Return the two routes of a model: below `/namespaces/NS`, which is taken away, and plain."""
    lua: Config = {"@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.LuaPerRoute"}
    if config.is_usage_counted:
        lua["name"] = USAGE_SCRIPT_NAME
    else:
        lua["disabled"] = True
    # No total time limit: a long generation is no fault. Silence is bounded by the connection manager.
    action: Config = {"cluster": wire.cluster_name(namespace, model), "timeout": "0s"}
    shared: Config = {
        "metadata": {"filter_metadata": {METADATA: {"model": model, "namespace": namespace}}},
        "typed_per_filter_config": {LUA_FILTER: lua},
    }
    strip = {"pattern": {"regex": f"^{_BELOW_NAMESPACE}"}, "substitution": ""}
    return [
        {"match": {"prefix": wire.NAMESPACE_PREFIX}, "route": {**action, "regex_rewrite": strip}, **shared},
        {"match": {"prefix": "/"}, "route": action, **shared},
    ]


def _unclaimed_routes(
    config: GatewayConfiguration, models: Sequence[ModelCluster], homes: dict[str, tuple[str, ...]]
) -> list[Config]:
    """Return what a request without a (known) cluster header meets, first match first."""
    inference: list[Config] = [{"path": path} for path in wire.INFERENCE_PATHS]
    # One expression each: all in one is larger than Envoy allows.
    inference += [{"safe_regex": {"regex": _BELOW_NAMESPACE + re.escape(path)}} for path in wire.INFERENCE_PATHS]
    by_namespace: dict[str, list[str]] = defaultdict(list)
    for cluster in models:
        by_namespace[cluster.namespace].append(cluster.model)
    parents = _parents(models, homes)
    not_yet = replies.error_body(
        "the model is not routed yet; retry shortly", "overloaded_error", "service_unavailable"
    )
    # What the fallback puts into its refusals. A namespace without models has no entry.
    names = {namespace: replies.listed_names(known) for namespace, known in by_namespace.items()}
    several = {model: replies.listed_names(spaces) for model, spaces in homes.items() if len(spaces) > 1}
    names[""] = replies.listed_names(homes)
    known_to_fallback = {"names": names, "several": several}
    unclaimed: Config = {
        "direct_response": {"status": 503, "body": {"inline_string": json.dumps(not_yet)}},
        "response_headers_to_add": [retry_after()],
        "metadata": {"filter_metadata": {LUA_FILTER: known_to_fallback}},
    }
    return [
        *({"match": {**match, "headers": [_method("POST")]}, **unclaimed} for match in inference),
        *_model_lists(by_namespace, homes, parents),
        _single_model(by_namespace, homes, names, parents),
        _health(config),
        *(_wrong_method(match, "POST") for match in inference),
        _wrong_method({"safe_regex": {"regex": f"({_BELOW_NAMESPACE})?/v1/models(/.*)?"}}, "GET"),
        _wrong_method({"path": wire.HEALTH_PATH}, "GET"),
        _direct({"prefix": "/"}, 404, replies.invalid("there is nothing at this path", "unknown_path")),
    ]


def _parents(models: Sequence[ModelCluster], homes: dict[str, tuple[str, ...]]) -> Parents:
    """Return base models of adapters by namespace and name; under "" those of names that one namespace has."""
    parents: Parents = defaultdict(dict)
    for cluster in models:
        if cluster.parent:
            parents[cluster.namespace][cluster.model] = cluster.parent
            if len(homes[cluster.model]) == 1:
                parents[""][cluster.model] = cluster.parent
    return parents


def _method(name: str) -> Config:
    return {"name": ":method", "string_match": {"exact": name}}


def _model_lists(
    by_namespace: dict[str, list[str]], homes: dict[str, tuple[str, ...]], parents: Parents
) -> list[Config]:
    """Return the routes that answer `GET /v1/models`: of a namespace by header or path, else all names."""
    get = _method("GET")
    lists: list[Config] = []
    for namespace, known in sorted(by_namespace.items()):
        named = {"name": wire.NAMESPACE_HEADER, "string_match": {"exact": namespace}}
        body = _model_list(known, parents[namespace])
        lists.append(_direct({"path": f"{wire.NAMESPACE_PREFIX}{namespace}/v1/models", "headers": [get]}, 200, body))
        lists.append(_direct({"path": "/v1/models", "headers": [get, named]}, 200, body))
    elsewhere = {"safe_regex": {"regex": f"{_BELOW_NAMESPACE}/v1/models"}, "headers": [get]}
    unknown = {"name": wire.NAMESPACE_HEADER, "present_match": True}
    return [
        *lists,
        _direct(elsewhere, 200, _model_list([], {})),
        _direct({"path": "/v1/models", "headers": [get, unknown]}, 200, _model_list([], {})),
        _direct({"path": "/v1/models", "headers": [get]}, 200, _model_list(homes, parents[""])),
    ]


def _model_list(models: Iterable[str], parents: Mapping[str, str]) -> Any:
    return {"object": "list", "data": [replies.model_entry(model, parents.get(model, "")) for model in sorted(models)]}


def _single_model(
    by_namespace: dict[str, list[str]], homes: dict[str, tuple[str, ...]], names: dict[str, str], parents: Parents
) -> Config:
    """Return the route whose script answers `GET /v1/models/MODEL`: a model's name may need decoding first."""
    # The value is an adapter's base model, or true.
    models: Config = {
        namespace: {model: parents[namespace].get(model, True) for model in sorted(known)}
        for namespace, known in {**by_namespace, "": list(homes)}.items()
    }
    path = {"safe_regex": {"regex": f"({_BELOW_NAMESPACE})?/v1/models/.*"}, "headers": [_method("GET")]}
    script = {"@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.LuaPerRoute", "name": MODELS_SCRIPT_NAME}
    return {
        **_direct(path, 404, replies.invalid("there is nothing at this path", "unknown_path")),
        "metadata": {"filter_metadata": {LUA_FILTER: {"models": models, "names": names}}},
        "typed_per_filter_config": {**_NO_DECISION, LUA_FILTER: script},
    }


def _direct(match: Config, status: int, body: Any) -> Config:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": json.dumps(body)}},
        "typed_per_filter_config": _NO_DECISION,
    }


def _health(config: GatewayConfiguration) -> Config:
    """Return the one route that is open to everyone: load balancers have no API key."""
    route = _direct({"path": wire.HEALTH_PATH, "headers": [_method("GET")]}, 200, {"status": "ok"})
    if not config.identity.is_api_key_required:
        return route
    open_to_all: Config = {"@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.LuaPerRoute", "disabled": True}
    return {**route, "typed_per_filter_config": {**_NO_DECISION, IDENTITY_FILTER: open_to_all}}


def _wrong_method(match: Config, allowed: str) -> Config:
    said = replies.invalid(f"the method is not allowed here; use {allowed}", "method_not_allowed")
    return {**_direct(match, 405, said), "response_headers_to_add": [header("allow", allowed)]}


def _retry_policy() -> Config:
    """Return when the next endpoint of the list is tried: as long as the client has seen nothing.

    503 is an engine's word for "not now" (starting, draining, queue full); asking another one is what it means.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": _MAX_RETRIES,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 8,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.1s"},
    }


def _response_headers() -> list[Config]:
    """Return headers of every answer; those without a value (no endpoint, no strategy) are left out."""
    values = {
        "request-id": "%REQ(x-request-id)%",
        "routing-strategy": f"%REQ({wire.STRATEGY_HEADER})%",
        "x-session-id": f"%REQ({wire.SESSION_HEADER})%",
        "x-aibrix-config-profile": f"%REQ({wire.PROFILE_HEADER})%",
        "target-pod": f"%UPSTREAM_METADATA({METADATA}:pod)%",
        "target-pod-ip": "%UPSTREAM_REMOTE_ADDRESS%",
    }
    return [header(name, value) for name, value in values.items()]
