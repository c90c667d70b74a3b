"""What every cluster has from the start: four namespaces, and the Service behind which the API itself is."""

from __future__ import annotations

from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.kinds.addresses import KUBERNETES_ADDRESS
from pybrix.cluster.apiserver.objects import KUBERNETES_SERVICE, PROTECTED_NAMESPACES, Objects
from pybrix.cluster.apiserver.resources import CRD_RESOURCE

_MANAGER = "kube-apiserver"


def ensure_namespaces(objects: Objects) -> None:
    """Create the namespaces that are missing, and go on with what a killed server had begun to clean up."""
    store = objects.store
    for name in PROTECTED_NAMESPACES:
        if store.get("namespaces", ObjectKey("", name)) is None:
            objects.create("namespaces", {"metadata": {"name": name}}, field_manager=_MANAGER)
    for crd in store.list(CRD_RESOURCE):
        if crd.data["metadata"].get("deletionTimestamp"):
            objects.clean_definition(crd)


def publish_address(objects: Objects, address: str, port: int) -> None:
    """Point the `kubernetes` Service at where the server listens now."""
    store = objects.store
    labels = {"component": "apiserver", "provider": "kubernetes"}
    if store.get("services", KUBERNETES_SERVICE) is None:
        service: dict[str, Any] = {
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "clusterIP": KUBERNETES_ADDRESS,
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
