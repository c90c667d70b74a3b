"""The configuration files of the components, written line by line from the values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pybrix.api.config import ControllersConfiguration, GatewayConfiguration
from pybrix.api.meta import Value as Struct
from pybrix.install.names import CONTROLLERS, NAMESPACE
from pybrix.install.redis import ADDRESS, CA_KEY, HAS_CA, HAS_PASSWORD, IS_TLS, PASSWORD_KEY
from pybrix.install.template import All, If, Line, Lines, Template, Value
from pybrix.install.values import RESERVED

HEALTH_PORT = 8081
"""Of /healthz, /readyz and /metrics, in every component."""
GATEWAY_PORT = 8080
TLS_DIR = "/etc/pybrix/tls"
USERS_PORT = 8090
"""Of the API for users and API keys, in a gateway's pod."""
ADMIN_TOKEN_DIR = "/etc/pybrix/admin"
ADMIN_TOKEN_KEY = "token"
REDIS_PASSWORD_DIR = "/etc/pybrix/redis"
REDIS_CA_DIR = "/etc/pybrix/redis-ca"
HAS_ADMIN_TOKEN = Value("gateway.adminTokenSecret")
HAS_USERS_API = All(HAS_ADMIN_TOKEN, Value("gateway.usersPort"))


def controllers_configuration() -> Lines:
    """Return `controllers.yaml`."""
    decided = (
        Line("namespaces", Value("controllers.namespaces")),
        Line("leaderElection", {"namespace": NAMESPACE, "name": CONTROLLERS}),
        Line("healthAddress", "0.0.0.0"),
        Line("healthPort", HEALTH_PORT),
    )
    return _file("pybrix.controllersConfiguration", ControllersConfiguration, "controllers.configuration", decided)


def gateway_configuration() -> Lines:
    """Return `gateway.yaml`."""
    has_tls = Value("gateway.tls.secretName")
    decided = (
        Line("address", "0.0.0.0"),
        Line("port", GATEWAY_PORT),
        Line("namespaces", Value("gateway.namespaces")),
        Line("tlsCertificatePath", f"{TLS_DIR}/tls.crt", has_tls),
        Line("tlsKeyPath", f"{TLS_DIR}/tls.key", has_tls),
    )
    parts: dict[str, dict[str, Template]] = {
        "redis": {
            "address": ADDRESS,
            "passwordPath": If(HAS_PASSWORD, f"{REDIS_PASSWORD_DIR}/{PASSWORD_KEY}", ""),
            "isTls": IS_TLS,
            "tlsCaPath": If(HAS_CA, f"{REDIS_CA_DIR}/{CA_KEY}", ""),
        },
        "identity": {
            "usersAddress": "0.0.0.0",
            "usersPort": If(HAS_USERS_API, USERS_PORT, 0),
            "adminTokenPath": If(HAS_ADMIN_TOKEN, f"{ADMIN_TOKEN_DIR}/{ADMIN_TOKEN_KEY}", ""),
        },
    }
    return _file("pybrix.gatewayConfiguration", GatewayConfiguration, "gateway.configuration", decided, parts)


def _file(
    name: str,
    cls: type[Struct],
    values: str,
    decided: tuple[Line, ...],
    parts: Mapping[str, Mapping[str, Template]] = {},
) -> Lines:
    """Return the file of a component.

    Args:
        values: path of what a user may choose of it.
        decided: fields that the installation decides.
        parts: fields that are chosen but for some of their own, which are decided: those, by the field's name.
    """
    head = (Line("apiVersion", cls().api_version), Line("kind", cls().kind))  # type: ignore[attr-defined]
    chosen = tuple(
        Line(field, {**parts[field], **_chosen(default, path)} if field in parts else Value(path))
        for field, path, default in _fields(cls(), values)
    )
    return Lines(name, (*head, *decided, *chosen))


def _chosen(defaults: Struct, values: str) -> dict[str, Template]:
    return {field: Value(path) for field, path, _ in _fields(defaults, values)}


def _fields(defaults: Struct, values: str) -> list[tuple[str, str, Any]]:
    """Return wire name, path of the value and default of every field that a user may choose."""
    reserved = RESERVED.get(values, {})
    return [
        (field.encode_name, f"{values}.{field.encode_name}", getattr(defaults, field.name))
        for field in msgspec.structs.fields(defaults)
        if field.encode_name not in reserved
    ]
