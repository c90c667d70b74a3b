"""All configuration files of a gateway, rendered from its configuration and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy.clusters import endpoints_file_name, render_cluster, render_endpoints
from pybrix.envoy.listener import render_listener
from pybrix.envoy.paths import EnvoyPaths
from pybrix.envoy.routes import render_claim, render_routes
from pybrix.envoy.tls import render_secret
from pybrix.envoy.wire import ModelCluster

XdsFiles = dict[str, bytes]
"""File name to content, in the order of writing: what is referred to comes before what refers to it."""

_KINDS = {
    "listener": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "routes": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    "cluster": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "secret": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    "endpoints": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
}


def _typed(kind: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {"@type": _KINDS[kind], **resource}


def _encode(resources: Sequence[object]) -> bytes:
    return msgspec.json.encode({"resources": resources})


def _rendered(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


class _Parts:
    """What is rendered of one model: its claim and its cluster by name once, its endpoints whenever they change."""

    __slots__ = ("claim", "cluster", "endpoints", "file_name", "model")

    def __init__(self, config: GatewayConfiguration, paths: EnvoyPaths, model: ModelCluster) -> None:
        self.cluster = _rendered(_typed("cluster", render_cluster(config, paths, model.name)))
        self.claim = _rendered(render_claim(config, model.namespace, model.model))
        self.file_name = endpoints_file_name(model.name)
        self.show(model)

    def show(self, model: ModelCluster) -> None:
        self.model = model
        self.endpoints = _encode([_typed("endpoints", render_endpoints(model))])


class XdsRenderer:
    """Renders all files again and again; what a change does not touch is not rendered anew, and is the same object.

    A change of one model's endpoints costs that model. Models that come and go cost their own parts, and the putting
    together of the files that list all of them.
    """

    def __init__(self, config: GatewayConfiguration, paths: EnvoyPaths) -> None:
        self._config = config
        self._paths = paths
        self._parts: dict[str, _Parts] = {}
        self._listed: tuple[tuple[str, str], ...] | None = None
        self._clusters = b""
        self._routes = b""
        self._users: Mapping[str, str] = {}
        has_tls = bool(config.tls_certificate_path)
        self._secrets = _encode([_typed("secret", render_secret(config))]) if has_tls else b""
        self._listeners = _encode([_typed("listener", render_listener(config, paths))])

    def admit(self, users: Mapping[str, str]) -> None:
        """Render from now on with these users, by the SHA-256 hash of an API key."""
        if users != self._users:
            self._users = dict(users)
            self._listed = None

    def render(self, models: Sequence[ModelCluster]) -> XdsFiles:
        """Return every file; equal input gives equal bytes, in the order of `render_xds`."""
        parts: dict[str, _Parts] = {}
        for model in sorted(models, key=_cluster_name):
            part = self._parts.get(model.name)
            if part is None:
                part = _Parts(self._config, self._paths, model)
            elif part.model is not model and part.model != model:
                part.show(model)
            parts[model.name] = part
        self._parts = parts
        listed = tuple([(name, part.model.parent) for name, part in parts.items()])
        if listed != self._listed:
            ordered = [part.model for part in parts.values()]
            claims = {name: part.claim for name, part in parts.items()}
            self._clusters = _encode([part.cluster for part in parts.values()])
            self._routes = _encode([_typed("routes", render_routes(self._config, ordered, claims, self._users))])
            self._listed = listed
        files = {part.file_name: part.endpoints for part in parts.values()}
        files[self._paths.clusters.name] = self._clusters
        files[self._paths.routes.name] = self._routes
        if self._secrets:
            files[self._paths.secrets.name] = self._secrets
        files[self._paths.listeners.name] = self._listeners
        return files


def _cluster_name(model: ModelCluster) -> str:
    return model.name


def render_xds(
    config: GatewayConfiguration,
    models: Sequence[ModelCluster],
    paths: EnvoyPaths,
    users: Mapping[str, str] | None = None,
) -> XdsFiles:
    """Return every file; equal input gives equal bytes. `users` are names by the SHA-256 hash of an API key.

    Endpoints come before clusters, clusters before routes, routes and the secret before the listener: nothing is
    referred to that is not there.
    """
    renderer = XdsRenderer(config, paths)
    renderer.admit(users or {})
    return renderer.render(models)


def render_empty_xds(paths: EnvoyPaths) -> XdsFiles:
    """Return what Envoy needs to start before the brain has written anything: no listener, so no open port."""
    return {paths.clusters.name: b'{"resources":[]}', paths.listeners.name: b'{"resources":[]}'}
