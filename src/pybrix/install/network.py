"""NetworkPolicies: nothing comes in or goes out but what is listed here. Pure.

Probes of kubelets need no rule: a node may always reach its own pods.
"""

from __future__ import annotations

from typing import Any

from pybrix.controllers.cachecluster.blueprint import ROLE_METADATA
from pybrix.controllers.cachecluster.managed import ETCD_PORT
from pybrix.controllers.cachecluster.managed import REDIS_PORT as METADATA_REDIS_PORT
from pybrix.controllers.kvcache.annotations import ROLE as CACHE_ROLE
from pybrix.controllers.kvcachepool.render import ROLE as POOL_ROLE
from pybrix.install.configuration import GATEWAY_PORT, HAS_USERS_API, HEALTH_PORT, USERS_PORT
from pybrix.install.names import CONTROLLERS, GATEWAY, REDIS, every_pod, metadata, selector
from pybrix.install.redis import IS_INSTALLED
from pybrix.install.redis import PORT as REDIS_PORT
from pybrix.install.template import Each, If, Item, PortOf, Template, Value

_ENABLED = Value("networkPolicies.enabled")
# Engines are found by this label, and their port, which has their metrics too, is said by another: none is given here.
_ENGINES = {"matchExpressions": [{"key": "model.aibrix.ai/name", "operator": "Exists"}]}
_METADATA = ({POOL_ROLE: ROLE_METADATA}, {CACHE_ROLE: ROLE_METADATA})
"""Labels of the metadata servers of KVCachePools and of KVCaches."""


def network_policies() -> list[Template]:
    """Return every NetworkPolicy."""
    clients, scrapers = Value("networkPolicies.clients"), Value("networkPolicies.scrapers")
    administrators, own_redis = Value("networkPolicies.administrators"), Value("networkPolicies.redis")
    redis_port = [{"protocol": "TCP", "port": PortOf(Value("redis.address"))}]
    nothing = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("pybrix-default-deny", "pybrix"),
        "spec": {"podSelector": {"matchLabels": every_pod()}, "policyTypes": ["Ingress", "Egress"]},
    }
    metrics = {"from": If(scrapers, scrapers, [{"namespaceSelector": {}}]), "ports": _tcp(HEALTH_PORT)}
    policies = [
        nothing,
        _policy(
            CONTROLLERS,
            ingress=[metrics],
            egress=[
                _dns(),
                _api_server(),
                _engines("controllers.namespaces"),
                *_metadata_servers("controllers.namespaces"),
                Each(Value("networkPolicies.controllersEgress"), "rule", [Item("rule")]),
            ],
        ),
        _policy(
            GATEWAY,
            ingress=[
                {"from": If(clients, clients), "ports": _tcp(GATEWAY_PORT)},
                metrics,
                If(
                    HAS_USERS_API,
                    {
                        "from": If(administrators, administrators, [{"namespaceSelector": {}}]),
                        "ports": _tcp(USERS_PORT),
                    },
                ),
            ],
            egress=[
                _dns(),
                _api_server(),
                _engines("gateway.namespaces"),
                If(IS_INSTALLED, {"to": [_pods_of(REDIS)], "ports": _tcp(REDIS_PORT)}),
                If(Value("redis.address"), {"to": If(own_redis, own_redis), "ports": redis_port}),
                Each(Value("networkPolicies.gatewayEgress"), "rule", [Item("rule")]),
            ],
        ),
        If(
            IS_INSTALLED,
            _policy(
                REDIS,
                ingress=[{"from": [_pods_of(GATEWAY)], "ports": _tcp(REDIS_PORT)}],
                # For the init container that fills the Secret.
                egress=[_dns(), _api_server()],
            ),
        ),
    ]
    return [If(_ENABLED, policies)]


def _policy(component: str, *, ingress: list[Template], egress: list[Template]) -> dict[str, Template]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(component, component),
        "spec": {
            "podSelector": {"matchLabels": selector(component)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _tcp(port: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port}]


def _pods_of(component: str) -> dict[str, Template]:
    return {"podSelector": {"matchLabels": selector(component)}}


def _dns() -> dict[str, Any]:
    # To any address: a node-local cache is not a pod.
    return {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def _api_server() -> dict[str, Template]:
    cidrs = Value("networkPolicies.apiServerCidrs")
    ports = Value("networkPolicies.apiServerPorts")
    return {
        "to": If(cidrs, [Each(cidrs, "cidr", [{"ipBlock": {"cidr": Item("cidr")}}])]),
        "ports": [Each(ports, "port", [{"protocol": "TCP", "port": Item("port")}])],
    }


def _engines(namespaces: str) -> dict[str, Template]:
    return {"to": [{"namespaceSelector": _in(namespaces), "podSelector": _ENGINES}]}


def _metadata_servers(namespaces: str) -> list[dict[str, Template]]:
    """Return the rules for etcds and Redises that are made for caches; those that are brought may be anywhere."""
    pods = [{"namespaceSelector": _in(namespaces), "podSelector": {"matchLabels": labels}} for labels in _METADATA]
    return [{"to": pods, "ports": [*_tcp(ETCD_PORT), *_tcp(METADATA_REDIS_PORT)]}]


def _in(namespaces: str) -> Template:
    names = Value(namespaces)
    chosen = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}]}
    return If(names, chosen, {})
