"""Clusters and endpoints: one cluster per model, its endpoints in a file of their own."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import wire
from pybrix.envoy.bootstrap import at_once, file_source, no_limits
from pybrix.envoy.listener import duration
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.scripts import METADATA
from pybrix.envoy.wire import ModelCluster

Config = dict[str, Any]

_TYPE = "type.googleapis.com/"
ENDPOINTS_PREFIX = "endpoints-"
_LONGEST_NAME = 200
# uvicorn closes an idle connection after 5 s; leaving first avoids sending a request into a closing connection.
_UPSTREAM_IDLE_TIMEOUT_S = 4.0


def endpoints_file_name(cluster: str) -> str:
    """Return the name of the file with a cluster's endpoints, unique and short enough for a file system."""
    quoted = quote(cluster, safe="")
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:_LONGEST_NAME]}-{hashlib.sha256(cluster.encode()).hexdigest()[:16]}"
    return f"{ENDPOINTS_PREFIX}{quoted}.json"


def render_cluster(config: GatewayConfiguration, paths: EnvoyPaths, name: str) -> Config:
    """Return the cluster of a model: the brain's list first, else the endpoint with the fewest requests."""
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": file_source(paths.endpoints(endpoints_file_name(name)))},
        "connect_timeout": duration(config.connect_timeout_s),
        "load_balancing_policy": {"policies": [{"typed_extension_config": _ranked_list()}]},
        "circuit_breakers": no_limits(),
        "common_lb_config": at_once(),
        "outlier_detection": _outlier_detection(),
        # A pod leaves the endpoints on purpose and finishes what it has; nothing is cut.
        "ignore_health_on_host_removal": True,
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 30, "keepalive_interval": 10}
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": duration(_UPSTREAM_IDLE_TIMEOUT_S)},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def render_endpoints(cluster: ModelCluster) -> Config:
    """Return the endpoints of a model, sorted, so that an unchanged set is an unchanged file."""
    endpoints = sorted(cluster.endpoints, key=lambda each: (each.address, each.port))
    return {
        "cluster_name": cluster.name,
        "endpoints": [
            {
                "locality": {},
                "lb_endpoints": [
                    {
                        "endpoint": {"address": {"socket_address": {"address": each.address, "port_value": each.port}}},
                        "metadata": {"filter_metadata": {METADATA: {"pod": each.pod_name, "uid": each.pod_uid}}},
                    }
                    for each in endpoints
                ],
            }
        ],
    }


def _ranked_list() -> Config:
    return {
        "name": "envoy.load_balancing_policies.override_host",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
            "override_host_sources": [{"header": wire.ENDPOINTS_HEADER}],
            "fallback_policy": {
                "policies": [
                    {
                        "typed_extension_config": {
                            "name": "envoy.load_balancing_policies.least_request",
                            "typed_config": {
                                "@type": f"{_TYPE}envoy.extensions.load_balancing_policies.least_request.v3."
                                "LeastRequest",
                                "choice_count": 4,
                            },
                        }
                    }
                ]
            },
        },
    }


def _outlier_detection() -> Config:
    """Return when the fallback passes over an endpoint: it cannot be reached. What engines answer is never counted."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 50,
    }
