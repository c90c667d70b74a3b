"""The listener: what happens to every request, whatever its model. It depends on the configuration only.

A change of the listener drains its connections; a change of models therefore never touches it (they are routes).
"""

from __future__ import annotations

from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import local_replies, wire
from pybrix.envoy.bootstrap import ACCESS_LOG_CLUSTER, BRAIN_CLUSTER, file_source
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.scripts import FALLBACK_SCRIPT, IDENTITY_SCRIPT, METADATA, MODELS_SCRIPT, USAGE_SCRIPT
from pybrix.envoy.tls import render_transport_socket
from pybrix.envoy.tracing import render_tracing

Config = dict[str, Any]

LISTENER = "gateway"
ROUTES = "gateway"
LUA_FILTER = "envoy.filters.http.lua"
AUTHORIZATION_FILTER = "envoy.filters.http.ext_authz"
IDENTITY_FILTER = "pybrix.identity"
USAGE_SCRIPT_NAME = "usage"
MODELS_SCRIPT_NAME = "models"
_TYPE = "type.googleapis.com/"


def duration(seconds: float) -> str:
    """Print seconds as protobuf's JSON does: `0.1s`."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def render_listener(config: GatewayConfiguration, paths: EnvoyPaths) -> Config:
    """Return the one listener of a gateway."""
    chain: Config = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _connection_manager(config, paths),
            }
        ]
    }
    if config.tls_certificate_path:
        chain["transport_socket"] = render_transport_socket(paths)
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": config.address, "port_value": config.port}},
        "filter_chains": [chain],
    }


def _connection_manager(config: GatewayConfiguration, paths: EnvoyPaths) -> Config:
    tracing = render_tracing(config)
    return {
        **({"tracing": tracing} if tracing is not None else {}),
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "codec_type": "AUTO",
        "rds": {"route_config_name": ROUTES, "config_source": file_source(paths.routes)},
        "early_header_mutation_extensions": [_strip_steering_headers(config)],
        "http_filters": [
            render_health_filter(),
            *_identity_filters(config),
            {"name": AUTHORIZATION_FILTER, "typed_config": _decision_filter(config)},
            {
                "name": LUA_FILTER,
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": FALLBACK_SCRIPT},
                    "source_codes": {
                        USAGE_SCRIPT_NAME: {"inline_string": USAGE_SCRIPT},
                        MODELS_SCRIPT_NAME: {"inline_string": MODELS_SCRIPT},
                    },
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router",
                    "dynamic_stats": False,
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "access_log": [_access_log(config)],
        "access_log_options": {"access_log_flush_interval": duration(config.reservation_renewal_s)},
        "local_reply_config": local_replies.render_local_replies(config),
        # Clients are outside: their address goes to x-forwarded-for, and none is trusted for where it comes from.
        "use_remote_address": True,
        "internal_address_config": {},
        "server_name": "pybrix",
        # What some load balancers' health checks still speak; such requests may come without a host.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "gateway"},
        "normalize_path": True,
        "merge_slashes": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_TYPE}envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
                "use_request_id_for_trace_sampling": False,
            }
        },
        "request_headers_timeout": "30s",
        # A stream whose engine has died ends by closing the connection: the client must not wait a second for it.
        "delayed_close_timeout": "0.1s",
        "stream_idle_timeout": duration(config.stream_idle_timeout_s),
        "max_request_headers_kb": local_replies.MAX_HEADERS_KIB,
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "max_headers_count": local_replies.MAX_HEADERS,
            **({"max_stream_duration": duration(config.stream_deadline_s)} if config.stream_deadline_s else {}),
        },
    }


def render_health_filter() -> Config:
    """Return what answers health checks with 503 while this Envoy drains; before, they go on to their route."""
    return {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": True,
            "headers": [
                {"name": ":path", "string_match": {"exact": wire.HEALTH_PATH}},
                {"name": ":method", "string_match": {"exact": "GET"}},
            ],
        },
    }


def _strip_steering_headers(config: GatewayConfiguration) -> Config:
    """Take away, before any filter or route looks, what would let a client choose where its request goes.

    A route's own `request_headers_to_remove` comes too late: without the brain a client's header would have been used.
    `x-request-id` goes as well, so that the id in answers and logs is one that Envoy made.
    """
    names = [*wire.STEERING_HEADERS, "x-request-id"]
    if not config.identity.admin_token_path:
        names += wire.ADMIN_HEADERS
    by_name: list[Config] = [{"remove": name} for name in names]
    by_prefix: Config = {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [*by_name, by_prefix],
        },
    }


def _identity_filters(config: GatewayConfiguration) -> list[Config]:
    """Return what stands before everything else where clients need an API key; the routes say which keys there are.

    A script that fails lets its request go on: what lets only named users through is the second filter.
    """
    if not config.identity.is_api_key_required:
        return []
    script = {
        "@type": f"{_TYPE}envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": IDENTITY_SCRIPT},
    }
    has_user = {"header": {"name": wire.USER_HEADER, "present_match": True}}
    is_get = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    is_health = {"and_rules": {"rules": [{"url_path": {"path": {"exact": wire.HEALTH_PATH}}}, is_get]}}
    only_users = {
        "@type": f"{_TYPE}envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {
            "action": "ALLOW",
            "policies": {
                "users": {"permissions": [{"any": True}], "principals": [has_user]},
                "health": {"permissions": [is_health], "principals": [{"any": True}]},
            },
        },
    }
    return [
        {"name": IDENTITY_FILTER, "typed_config": script},
        {"name": "envoy.filters.http.rbac", "typed_config": only_users},
    ]


def _exact(name: str) -> Config:
    return {"exact": name, "ignore_case": True}


def _prefix(start: str) -> Config:
    return {"prefix": start, "ignore_case": True}


def _decision_filter(config: GatewayConfiguration) -> Config:
    """Ask the brain, with the whole body; go on without it when it fails or takes too long."""
    asked = ["x-request-id", *wire.DECISION_HEADERS]
    if config.identity.admin_token_path:
        asked += wire.ADMIN_HEADERS
    return {
        "@type": f"{_TYPE}envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "http_service": {
            "server_uri": {
                "uri": "http://brain",
                "cluster": BRAIN_CLUSTER,
                "timeout": duration(config.decision_timeout_ms / 1000),
            },
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [_exact(name) for name in wire.DECIDED_HEADERS]},
                "allowed_client_headers": {
                    "patterns": [
                        *(_exact(name) for name in wire.REFUSAL_HEADERS),
                        *(_prefix(each) for each in wire.REFUSAL_HEADER_PREFIXES),
                    ]
                },
                "allowed_client_headers_on_success": {
                    "patterns": [_prefix(each) for each in wire.ANSWER_HEADER_PREFIXES]
                },
            },
        },
        "allowed_headers": {"patterns": [_exact(name) for name in asked]},
        "with_request_body": {"max_request_bytes": config.body_limit_bytes, "allow_partial_message": False},
        "failure_mode_allow": True,
        "clear_route_cache": True,
    }


def _access_log(config: GatewayConfiguration) -> Config:
    """Return one record per routed request (and its renewals), typed, in batches, to the brain."""
    record = {
        wire.LogField.RESERVATION: f"%REQ({wire.RESERVATION_HEADER})%",
        wire.LogField.REQUEST_ID: "%REQ(x-request-id)%",
        wire.LogField.RECORD_TYPE: "%ACCESS_LOG_TYPE%",
        wire.LogField.CLUSTER: "%UPSTREAM_CLUSTER_RAW%",
        wire.LogField.UPSTREAM: "%UPSTREAM_HOST%",
        wire.LogField.STATUS: "%RESPONSE_CODE%",
        wire.LogField.FLAGS: "%RESPONSE_FLAGS%",
        wire.LogField.TTFT_MS: "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%",
        wire.LogField.DURATION_MS: "%DURATION%",
        wire.LogField.ATTEMPTS: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    }
    if config.is_usage_counted:
        for field in wire.USAGE_FIELDS:
            record[field] = f"%DYNAMIC_METADATA({METADATA}:usage:{field})%"
    return {
        "name": "envoy.access_loggers.fluentd",
        # What the brain refused, and what no model claimed, it knows or need not know.
        "filter": {"header_filter": {"header": {"name": wire.CLUSTER_HEADER, "present_match": True}}},
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.fluentd.v3.FluentdAccessLogConfig",
            "cluster": ACCESS_LOG_CLUSTER,
            "tag": "pybrix",
            "stat_prefix": "brain",
            "buffer_flush_interval": "0.05s",
            "buffer_size_bytes": 65536,
            "record": record,
            "retry_options": {"backoff_options": {"base_interval": "0.1s", "max_interval": "1s"}},
        },
    }
