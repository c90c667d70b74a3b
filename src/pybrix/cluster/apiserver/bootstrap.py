"""What every cluster has from the start: four namespaces, two priority classes, and the Service of the API itself."""

from __future__ import annotations

from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.creation import KUBERNETES_SERVICE
from pybrix.cluster.apiserver.kinds.addresses import choose_address, is_address_of, kubernetes_address
from pybrix.cluster.apiserver.kinds.scaling import SYSTEM_PRIORITIES
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.removal import PROTECTED_NAMESPACES
from pybrix.cluster.apiserver.resources import CRD_RESOURCE

_MANAGER = "kube-apiserver"
_PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"


def ensure_namespaces(objects: Objects) -> None:
    """Create what is missing of what every cluster has, and go on with what a killed server had begun to clean up."""
    store = objects.store
    for name in PROTECTED_NAMESPACES:
        if store.get("namespaces", ObjectKey("", name)) is None:
            objects.create("namespaces", {"metadata": {"name": name}}, field_manager=_MANAGER)
    for namespace in store.list("namespaces"):
        objects.furnish(namespace)
    for name, value in SYSTEM_PRIORITIES.items():
        if store.get(_PRIORITY_CLASSES, ObjectKey("", name)) is None:
            objects.create(_PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value}, field_manager=_MANAGER)
    for crd in store.list(CRD_RESOURCE):
        if crd.data["metadata"].get("deletionTimestamp"):
            objects.clean_definition(crd)


def readdress_services(objects: Objects) -> None:
    """Give Services of another network than the cluster's present one addresses of this: nobody listens on theirs."""
    records, network = objects.records, objects.service_network
    served = records.served("services")
    stored = {service.key: service for service in objects.store.list("services")}
    held = {key: str(service.data["spec"].get("clusterIP", "")) for key, service in stored.items()}
    taken = {kubernetes_address(network), *held.values()}
    for key, service in stored.items():
        if held[key] in ("", "None") or is_address_of(network, held[key]):
            continue
        is_api = key == KUBERNETES_SERVICE
        address = kubernetes_address(network) if is_api else choose_address(service.uid, taken, network)
        taken.add(address)
        spec = {**service.data["spec"], "clusterIP": address, "clusterIPs": [address]}
        records.change(served, service, {**service.data, "spec": spec})


def publish_address(objects: Objects, address: str, port: int) -> None:
    """Point the `kubernetes` Service at where the server listens now."""
    store = objects.store
    labels = {"component": "apiserver", "provider": "kubernetes"}
    if store.get("services", KUBERNETES_SERVICE) is None:
        service: dict[str, Any] = {
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "clusterIP": kubernetes_address(objects.service_network),
                "ports": [{"name": "https", "port": 443, "targetPort": port}],
            },
        }
        objects.create("services", service, field_manager=_MANAGER)
    else:
        patch = {"spec": {"ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}}
        objects.patch("services", KUBERNETES_SERVICE, patch, field_manager=_MANAGER)
    endpoints = {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    slices = "endpointslices.discovery.k8s.io"
    if store.get(slices, KUBERNETES_SERVICE) is None:
        metadata = {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        }
        objects.create(slices, {"metadata": metadata, **endpoints}, field_manager=_MANAGER)
    else:
        objects.patch(slices, KUBERNETES_SERVICE, endpoints, field_manager=_MANAGER)
