"""Names, labels and places that the manifests have in common. Pure."""

from __future__ import annotations

from pybrix.install.template import If, Release, Template, Text, Value

CONTROLLERS = "pybrix-controllers"
GATEWAY = "pybrix-gateway"
REDIS = "pybrix-redis"

PART_OF = "app.kubernetes.io/part-of"
_NAME = "app.kubernetes.io/name"
_INSTANCE = "app.kubernetes.io/instance"
_VERSION = "app.kubernetes.io/version"
_MANAGED_BY = "app.kubernetes.io/managed-by"

NAMESPACE = Release("namespace")


def selector(name: str) -> dict[str, Template]:
    """Return the labels by which pods of a component are found; they never change."""
    return {_NAME: name, _INSTANCE: Release("name")}


def every_pod() -> dict[str, Template]:
    """Return the labels that all pods of an installation have."""
    return {PART_OF: "pybrix", _INSTANCE: Release("name")}


def labels(name: str) -> dict[str, Template]:
    """Return the labels of an object of a component."""
    return {**selector(name), PART_OF: "pybrix", _VERSION: Value("image.tag"), _MANAGED_BY: Release("service")}


def pod_labels(name: str) -> dict[str, Template]:
    """Return the labels of a component's pods. No version: a new tag of the image is what rolls pods."""
    return {**selector(name), PART_OF: "pybrix"}


def metadata(name: Template, component: str, namespace: Template = NAMESPACE) -> dict[str, Template]:
    """Return the metadata of an object in a namespace."""
    return {"name": name, "namespace": namespace, "labels": labels(component)}


def cluster_metadata(name: Template, component: str) -> dict[str, Template]:
    """Return the metadata of an object without a namespace."""
    return {"name": name, "labels": labels(component)}


def cluster_name(part: str) -> Text:
    """Return the name of a cluster-wide object: it tells installations of several namespaces apart."""
    return Text("pybrix:", NAMESPACE, f":{part}")


def image() -> If:
    """Return pybrix's own image."""
    repository = Value("image.repository")
    return If(
        Value("image.digest"),
        Text(repository, "@", Value("image.digest")),
        Text(repository, ":", Value("image.tag")),
    )
