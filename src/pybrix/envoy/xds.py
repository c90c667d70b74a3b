"""All configuration files of a gateway, rendered from its configuration and its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.clusters import endpoints_file_name, render_cluster, render_endpoints
from pybrix.envoy.listener import render_listener
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.routes import render_routes
from pybrix.envoy.wire import ModelCluster

XdsFiles = dict[str, bytes]
"""File name to content, in the order of writing: what is referred to comes before what refers to it."""

_KINDS = {
    "listener": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "cluster": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "endpoints": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
}


def _encode(kind: str, resources: Sequence[dict[str, Any]]) -> bytes:
    typed = [{"@type": _KINDS[kind], **resource} for resource in resources]
    return msgspec.json.encode({"resources": typed})


def render_xds(config: GatewayConfiguration, models: Sequence[ModelCluster], paths: EnvoyPaths) -> XdsFiles:
    """Return every file; equal input gives equal bytes.

    Endpoints come before clusters, clusters before routes, routes before the listener: nothing is referred to that is
    not there.
    """
    ordered = sorted({cluster.name: cluster for cluster in models}.values(), key=lambda cluster: cluster.name)
    files = {
        endpoints_file_name(cluster.name): _encode("endpoints", [render_endpoints(cluster)]) for cluster in ordered
    }
    files[paths.clusters.name] = _encode("cluster", [render_cluster(config, paths, each.name) for each in ordered])
    files[paths.routes.name] = _encode("routes", [render_routes(config, ordered)])
    files[paths.listeners.name] = _encode("listener", [render_listener(config, paths)])
    return files


def render_empty_xds(paths: EnvoyPaths) -> XdsFiles:
    """Return what Envoy needs to start before the brain has written anything: no listener, so no open port."""
    return {paths.clusters.name: b'{"resources":[]}', paths.listeners.name: b'{"resources":[]}'}
