"""What Envoy is started with: its admin socket, where its configuration files are, and how the brain is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import wire
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.tracing import render_tracing_cluster

Config = dict[str, Any]

BRAIN_CLUSTER = "pybrix_brain"
ACCESS_LOG_CLUSTER = "pybrix_access_log"
MAX_DOWNSTREAM_CONNECTIONS = 50_000
NO_LIMIT = 2**32 - 1


def file_source(path: Path) -> Config:
    """Return a configuration source that follows a file: replaced by rename, read again at once."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def no_limits() -> Config:
    """Return circuit breakers that never open, with retries for every request.

    Envoy's defaults (1024 requests, 3 retries at a time) fail requests as soon as an engine with many streams dies.
    """
    return {
        "thresholds": [
            {
                "priority": "DEFAULT",
                "max_connections": NO_LIMIT,
                "max_pending_requests": NO_LIMIT,
                "max_requests": NO_LIMIT,
                "max_retries": NO_LIMIT,
                "retry_budget": {"budget_percent": {"value": 100.0}, "min_retry_concurrency": 1_000_000},
            }
        ]
    }


def at_once() -> Config:
    """Return the setting by which workers learn at once which endpoints are out.

    By default changes within a second of another one are held back, and requests go on to wait for what is dead.
    """
    return {"update_merge_window": "0s"}


def render_bootstrap(config: GatewayConfiguration, paths: EnvoyPaths, node_id: str = "gateway") -> Config:
    """Return Envoy's bootstrap as JSON-like data.

    Listeners, routes, clusters and endpoints come from the files of `paths.xds_dir`; they must exist when Envoy starts.
    """
    tracing = render_tracing_cluster(config.tracing)
    return {
        "node": {"id": node_id, "cluster": "pybrix-gateway"},
        "admin": render_admin(paths),
        "dynamic_resources": {
            "lds_config": file_source(paths.listeners),
            "cds_config": file_source(paths.clusters),
        },
        "static_resources": {
            "clusters": [
                _brain_cluster(config, paths),
                _access_log_cluster(paths),
                *([tracing] if tracing is not None else []),
            ]
        },
        # Nothing collects statistics on a timer; they are made up to date when the admin socket is asked.
        "stats_flush_on_admin": True,
        # A model that nobody asks for costs no counters.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": connection_limit(),
    }


def render_admin(paths: EnvoyPaths) -> Config:
    """Return the admin interface: a socket for this user alone."""
    return {"address": {"pipe": {"path": str(paths.admin_socket), "mode": 0o600}}}


def connection_limit() -> Config:
    """Return the overload manager that bounds the connections of clients."""
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
                    "DownstreamConnectionsConfig",
                    "max_active_downstream_connections": MAX_DOWNSTREAM_CONNECTIONS,
                },
            }
        ]
    }


def _pipe_assignment(name: str, path: Path) -> Config:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _brain_cluster(config: GatewayConfiguration, paths: EnvoyPaths) -> Config:
    """Return the brain's cluster: out after a few failed decisions, back after one good health check.

    With the panic threshold at 0 a brain that is out costs nothing: `ext_authz` fails open at once.
    """
    return {
        "name": BRAIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "0.1s",
        "load_assignment": _pipe_assignment(BRAIN_CLUSTER, paths.decision_socket),
        "circuit_breakers": no_limits(),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}, **at_once()},
        "outlier_detection": {
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "consecutive_5xx": 3,
            "enforcing_consecutive_5xx": 100,
            "enforcing_success_rate": 0,
            "max_ejection_percent": 100,
            "interval": "0.5s",
            "base_ejection_time": "5s",
            "max_ejection_time": "5s",
            "successful_active_health_check_uneject_host": True,
        },
        "health_checks": [
            {
                "timeout": "0.4s",
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "unhealthy_interval": "0.1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": wire.HEALTH_PATH, "host": "brain"},
            }
        ],
    }


def _access_log_cluster(paths: EnvoyPaths) -> Config:
    return {
        "name": ACCESS_LOG_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": _pipe_assignment(ACCESS_LOG_CLUSTER, paths.access_log_socket),
    }
