"""The load balancer in front of several gateways on one machine: an Envoy that knows nothing of models. Pure.

Gateways come and go by a file; one that leaves it finishes what it has. What a gateway has not begun to answer when it
dies goes to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import local_replies, replies, wire
from pybrix.envoy.bootstrap import at_once, connection_limit, file_source, no_limits, render_admin
from pybrix.envoy.listener import duration, render_health_filter
from pybrix.envoy.paths import EnvoyPaths

Config = dict[str, Any]

CLUSTER = "gateways"
_TYPE = "type.googleapis.com/"
# The gateway's own limit comes first, so that its answer is the one that a client sees.
_LATER_S = 5.0
# Idle connections go long before a draining gateway's grace period is over.
_IDLE_TIMEOUT_S = 2.0


def gateways_file(paths: EnvoyPaths) -> Path:
    """Return the file that lists the gateways; it must exist when the balancer starts."""
    return paths.xds_dir / "gateways.json"


def render_gateways(addresses: Sequence[tuple[str, int]]) -> bytes:
    """Return the content of that file: addresses and ports."""
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
        for address, port in sorted(addresses)
    ]
    assignment = {
        "@type": f"{_TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": CLUSTER,
        "endpoints": [{"locality": {}, "lb_endpoints": endpoints}],
    }
    return msgspec.json.encode({"resources": [assignment]})


def render_balancer(config: GatewayConfiguration, paths: EnvoyPaths) -> Config:
    """Return the bootstrap of a balancer that listens where the configuration says."""
    return {
        "node": {"id": "balancer", "cluster": "pybrix-balancer"},
        "admin": render_admin(paths),
        "static_resources": {"listeners": [_listener(config)], "clusters": [_cluster(config, paths)]},
        "stats_flush_on_admin": True,
        "overload_manager": connection_limit(),
    }


def _listener(config: GatewayConfiguration) -> Config:
    manager: Config = {
        "@type": f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "route_config": {
            "virtual_hosts": [{"name": CLUSTER, "domains": ["*"], "routes": [_route(config)]}],
        },
        "http_filters": [
            render_health_filter(),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "local_reply_config": _local_replies(),
        "use_remote_address": True,
        "internal_address_config": {},
        # The gateway makes ids, and says who it is.
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "gateway"},
        "request_headers_timeout": "30s",
        "delayed_close_timeout": "0.1s",
        "stream_idle_timeout": duration(config.stream_idle_timeout_s + _LATER_S),
        "common_http_protocol_options": {"idle_timeout": "3600s"},
    }
    return {
        "name": "gateway",
        "address": {"socket_address": {"address": config.address, "port_value": config.port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _route(config: GatewayConfiguration) -> Config:
    return {
        "match": {"prefix": "/"},
        # What is to be sent again is kept until the answer begins.
        "request_body_buffer_limit": config.body_limit_bytes,
        "route": {
            "cluster": CLUSTER,
            "timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset",
                "num_retries": 4,
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": f"{_TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 5,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
            },
        },
    }


def _cluster(config: GatewayConfiguration, paths: EnvoyPaths) -> Config:
    return {
        "name": CLUSTER,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": file_source(gateways_file(paths))},
        "connect_timeout": duration(config.connect_timeout_s),
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": no_limits(),
        # With all of them out by their health checks, any may be tried.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1.0}, **at_once()},
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "unhealthy_interval": "0.2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": wire.HEALTH_PATH, "host": "gateway"},
            }
        ],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": duration(_IDLE_TIMEOUT_S)},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _local_replies() -> Config:
    away = replies.error_body("no gateway could be reached; retry shortly", "api_error", "gateway_unreachable")
    return {
        "mappers": [
            local_replies.mapper(
                local_replies.status_filter("GE", 500), away, status=503, headers=[local_replies.retry_after()]
            ),
            local_replies.mapper(
                local_replies.status_filter("GE", 400), local_replies.generic("invalid_request_error", "bad_request")
            ),
        ]
    }
