"""The built-in resources, as one table."""

from __future__ import annotations

from typing import Any

from pybrix.cluster.apiserver.conversions import EVENTS
from pybrix.cluster.apiserver.resources import TYPES, VERBS, ResourceType, ScalePaths


def _builtin(group: str, version: str, plural: str, kind: str, **options: Any) -> ResourceType:
    return ResourceType(group, version, plural, kind, TYPES[kind], singular=kind.lower(), **options)


_EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_POD_FIELDS = (
    *(f"spec.{name}" for name in ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName", "hostNetwork")),
    *(f"status.{name}" for name in ("phase", "podIP", "nominatedNodeName")),
)
BUILTINS: tuple[ResourceType, ...] = (
    _builtin("", "v1", "bindings", "Binding", verbs=("create",)),
    _builtin("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    ResourceType(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        TYPES["EventsEvent"],
        singular="event",
        short_names=("ev",),
        conversion=EVENTS,
        selectable=tuple(
            f.replace("involvedObject", "regarding").replace("reportingComponent", "reportingController")
            for f in _EVENT_FIELDS
        ),
    ),
    _builtin("", "v1", "events", "Event", short_names=("ev",), selectable=_EVENT_FIELDS),
    _builtin(
        "",
        "v1",
        "namespaces",
        "Namespace",
        short_names=("ns",),
        is_namespaced=False,
        has_status=True,
        subresources=("finalize",),
        selectable=("status.phase",),
        verbs=tuple(v for v in VERBS if v != "deletecollection"),
    ),
    _builtin(
        "",
        "v1",
        "nodes",
        "Node",
        short_names=("no",),
        is_namespaced=False,
        has_status=True,
        selectable=("spec.unschedulable",),
    ),
    _builtin(
        "",
        "v1",
        "pods",
        "Pod",
        short_names=("po",),
        categories=("all",),
        has_status=True,
        has_generation=True,
        subresources=("log", "exec", "attach", "portforward", "binding", "eviction"),
        selectable=_POD_FIELDS,
    ),
    _builtin("", "v1", "secrets", "Secret", selectable=("type",)),
    _builtin("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",)),
    _builtin(
        "",
        "v1",
        "services",
        "Service",
        short_names=("svc",),
        categories=("all",),
        has_status=True,
        selectable=("spec.clusterIP", "spec.type"),
    ),
    _builtin(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short_names=("deploy",),
        categories=("all",),
        has_status=True,
        has_generation=True,
        scale=ScalePaths(),
    ),
    _builtin(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        selectable=("status.replicas",),
        has_status=True,
        has_generation=True,
        scale=ScalePaths(),
    ),
    _builtin(
        "apps",
        "v1",
        "statefulsets",
        "StatefulSet",
        short_names=("sts",),
        categories=("all",),
        has_status=True,
        has_generation=True,
        scale=ScalePaths(),
    ),
    _builtin("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _builtin(
        "batch",
        "v1",
        "jobs",
        "Job",
        categories=("all",),
        has_status=True,
        has_generation=True,
        selectable=("status.successful",),
    ),
    _builtin(
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        short_names=("pvc",),
        has_status=True,
    ),
    _builtin("coordination.k8s.io", "v1", "leases", "Lease", may_update_blindly=False),
    _builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True),
    _builtin(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        categories=("api-extensions",),
        is_namespaced=False,
        has_status=True,
        has_generation=True,
    ),
    _builtin(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        categories=("api-extensions",),
        is_namespaced=False,
        has_generation=True,
    ),
    # The last version is the one that is stored; older ones are for installations that name them.
    *(
        _builtin(
            "admissionregistration.k8s.io",
            version,
            plural,
            kind,
            categories=("api-extensions",),
            is_namespaced=False,
            has_generation=True,
        )
        for plural, kind in (
            ("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
            ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
        )
        for version in ("v1alpha1", "v1beta1", "v1")
    ),
    _builtin(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        is_namespaced=False,
        has_status=True,
        has_generation=True,
        may_update_blindly=False,
    ),
    _builtin(
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        is_namespaced=False,
        verbs=("create",),
    ),
    _builtin("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", is_namespaced=False, verbs=("create",)),
    *(
        _builtin("authorization.k8s.io", "v1", f"{kind.lower()}s", kind, is_namespaced=is_namespaced, verbs=("create",))
        for kind, is_namespaced in (
            ("LocalSubjectAccessReview", True),
            ("SelfSubjectAccessReview", False),
            ("SelfSubjectRulesReview", False),
            ("SubjectAccessReview", False),
        )
    ),
    _builtin("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    _builtin("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    _builtin("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", is_namespaced=False),
    _builtin("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", is_namespaced=False),
    _builtin(
        "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",), has_generation=True
    ),
    _builtin(
        "networking.k8s.io", "v1", "ingresses", "Ingress", short_names=("ing",), has_status=True, has_generation=True
    ),
    _builtin(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        short_names=("pdb",),
        has_status=True,
        has_generation=True,
    ),
    _builtin(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        short_names=("hpa",),
        categories=("all",),
        has_status=True,
    ),
    _builtin(
        "scheduling.k8s.io",
        "v1",
        "priorityclasses",
        "PriorityClass",
        short_names=("pc",),
        is_namespaced=False,
        has_generation=True,
    ),
)
