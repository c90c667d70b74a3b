"""Schemas of the Kubernetes parts inside our kinds: selectors, references, environment, resources, pod templates.

What pybrix reads of them is typed; everything else passes through unchanged (`x-kubernetes-preserve-unknown-fields`),
so that a manifest written for a newer Kubernetes loses nothing.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
PERCENT_PATTERN = r"^[0-9]+%$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
LABEL_VALUE_PATTERN = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
# Bounds that no real manifest reaches; they keep the estimated cost of the rules over labels within the budget of an
# API server. Listed in docs/concepts/custom-resources.md.
MAX_LABELS = 64
MAX_LABEL_VALUE = 63
MAX_LABEL_KEY = 317
MAX_EXPRESSIONS = 32
ATOMIC_LIST: Schema = {"x-kubernetes-list-type": "atomic"}
ATOMIC_MAP: Schema = {"x-kubernetes-map-type": "atomic"}


def string(description: str, **keywords: Any) -> Schema:
    return {"description": description, "type": "string", **keywords}


def integer(description: str, **keywords: Any) -> Schema:
    return {"description": description, "type": "integer", "format": "int32", **keywords}


def boolean(description: str) -> Schema:
    return {"description": description, "type": "boolean"}


def array(description: str, items: Schema, **keywords: Any) -> Schema:
    return {"description": description, "type": "array", "items": items, **keywords}


def strings(description: str) -> Schema:
    return array(description, {"type": "string"})


def mapping(description: str, values: Schema, **keywords: Any) -> Schema:
    return {"description": description, "type": "object", "additionalProperties": values, **keywords}


def closed(description: str, properties: Schema, required: tuple[str, ...] = (), **keywords: Any) -> Schema:
    """Return an object of exactly these properties."""
    schema = {"description": description, "type": "object", "properties": properties, **keywords}
    if required:
        schema["required"] = list(required)
    return schema


def open_object(description: str, properties: Schema | None = None, required: tuple[str, ...] = ()) -> Schema:
    """Return an object whose unknown fields pass through."""
    schema: Schema = {"description": description, "type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = list(required)
    return schema


def by_name(description: str, items: Schema) -> Schema:
    """Return a list whose items are told apart by `name`."""
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    return array(description, items, **keys)


def quantities(description: str) -> Schema:
    """Return a map of resource name to quantity."""
    return mapping(description, {"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN})


LABELS = mapping(
    "Labels of what is created from the template.",
    {"type": "string", "maxLength": MAX_LABEL_VALUE},
    maxProperties=MAX_LABELS,
)

LABEL_SELECTOR: Schema = closed(
    "A query over labels: all of it must hold.",
    {
        "matchLabels": mapping(
            "Labels that must be there with exactly these values.",
            {"type": "string", "maxLength": MAX_LABEL_VALUE, "pattern": LABEL_VALUE_PATTERN},
            maxProperties=MAX_LABELS,
            **{
                "x-kubernetes-validations": [
                    {
                        "rule": f"self.all(k, k.matches('{LABEL_KEY_PATTERN.replace(chr(92), chr(92) * 2)}'))",
                        "message": "a key is a name such as app or example.com/app; no label can have another",
                    }
                ]
            },
        ),
        "matchExpressions": array(
            "Conditions on labels; all must hold.",
            closed(
                "A condition on one label.",
                {
                    "key": string("Key of the label.", maxLength=MAX_LABEL_KEY, pattern=LABEL_KEY_PATTERN),
                    "operator": string("In, NotIn, Exists or DoesNotExist.", maxLength=16),
                    "values": array(
                        "Values for In and NotIn; empty for the others.",
                        {"type": "string", "maxLength": MAX_LABEL_VALUE, "pattern": LABEL_VALUE_PATTERN},
                        maxItems=MAX_LABELS,
                        **ATOMIC_LIST,
                    ),
                },
                ("key", "operator"),
                **{
                    "x-kubernetes-validations": [
                        {
                            "rule": "self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",
                            "message": "operator must be In, NotIn, Exists or DoesNotExist",
                            "fieldPath": ".operator",
                        },
                        {
                            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                            "message": "In and NotIn need values; Exists and DoesNotExist take none",
                            "fieldPath": ".values",
                        },
                    ]
                },
            ),
            maxItems=MAX_EXPRESSIONS,
            **ATOMIC_LIST,
        ),
    },
    **ATOMIC_MAP,
)

OBJECT_REFERENCE: Schema = closed(
    "A reference to an object.",
    {
        "apiVersion": string("API version of the object, such as `apps/v1`.", maxLength=317),
        "kind": string("Kind of the object.", maxLength=63),
        "name": string("Name of the object.", maxLength=253),
        "namespace": string("Namespace of the object; the referring object's own when absent.", maxLength=253),
        "uid": string("Unique id of the object."),
        "resourceVersion": string("Version of the object that was meant."),
        "fieldPath": string("Part of the object that was meant."),
    },
    **ATOMIC_MAP,
)

SECRET_REFERENCE: Schema = closed(
    "A Secret in the same namespace.",
    {"name": string("Name of the Secret.", default="", maxLength=253)},
    **ATOMIC_MAP,
)

RESOURCES: Schema = open_object(
    "Compute resources of the container.",
    {
        "limits": quantities("The most it may use, by resource name."),
        "requests": quantities("What is reserved for it, by resource name."),
        "claims": by_name(
            "Resource claims of the pod that the container uses.",
            open_object("A claim.", {"name": string("Name of the claim in the pod.")}, ("name",)),
        ),
    },
)

ENV_VAR: Schema = open_object(
    "One environment variable.",
    {
        "name": string("Name of the variable."),
        "value": string("Its value; `$(OTHER)` is replaced by another variable."),
        "valueFrom": open_object("Where the value comes from: a field of the pod, a ConfigMap, a Secret."),
    },
    ("name",),
)

_PORT = open_object(
    "A port that the container listens on.",
    {
        "containerPort": integer("Number of the port."),
        "name": string("Name of the port, unique in the pod."),
        "protocol": string("TCP, UDP or SCTP.", default="TCP"),
        "hostPort": integer("Port on the node."),
        "hostIP": string("Address of the node that the host port is bound to."),
    },
    ("containerPort",),
)

_CONTAINER = open_object(
    "A container.",
    {
        "name": string("Name of the container, unique in the pod."),
        "image": string("Image that it runs."),
        "imagePullPolicy": string("Always, IfNotPresent or Never."),
        "command": strings("Replaces the entrypoint of the image."),
        "args": strings("Replaces the arguments of the image."),
        "workingDir": string("Working directory."),
        "env": array("Environment variables.", ENV_VAR),
        "envFrom": array("ConfigMaps and Secrets whose keys become variables.", open_object("A source of variables.")),
        "ports": array(
            "Ports that the container listens on.",
            _PORT,
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort", "protocol"]},
        ),
        "resources": RESOURCES,
        "volumeMounts": array(
            "Volumes of the pod and where they appear.",
            open_object(
                "A mount.",
                {"name": string("Name of the volume."), "mountPath": string("Path inside the container.")},
                ("mountPath", "name"),
            ),
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["mountPath"]},
        ),
        "livenessProbe": open_object("When it fails, the container is started again."),
        "readinessProbe": open_object("While it fails, the pod gets no traffic."),
        "startupProbe": open_object("Holds the other probes back until it succeeds."),
        "lifecycle": open_object("Hooks after the start and before the end."),
        "securityContext": open_object("Privileges of the container."),
        "restartPolicy": string("Always makes an init container a sidecar."),
    },
    ("name",),
)

POD_SPEC: Schema = open_object(
    "What the pods run; as in a Pod. Fields that are not listed here pass through.",
    {
        "containers": by_name("Containers of the pod.", _CONTAINER),
        "initContainers": by_name("Containers that run to their end before the others start.", _CONTAINER),
        "volumes": by_name(
            "Volumes that containers can mount.",
            open_object("A volume.", {"name": string("Name of the volume, unique in the pod.")}, ("name",)),
        ),
        "nodeSelector": mapping("Labels that the node must have.", {"type": "string"}),
        "affinity": open_object("Which nodes and neighbours are preferred or required."),
        "tolerations": array("Taints that the pods tolerate.", open_object("A toleration.")),
        "topologySpreadConstraints": array("How the pods spread.", open_object("A constraint.")),
        "schedulerName": string("Scheduler that places the pods."),
        "priorityClassName": string("Priority class of the pods."),
        "runtimeClassName": string("Runtime class of the pods."),
        "serviceAccountName": string("Service account of the pods."),
        "restartPolicy": string("Always, OnFailure or Never."),
        "terminationGracePeriodSeconds": {
            "description": "Seconds between the request to end and the kill.",
            "type": "integer",
            "format": "int64",
        },
        "hostNetwork": boolean("Use the network of the node."),
        "hostIPC": boolean("Use the IPC namespace of the node."),
        "hostname": string("Host name of the pods."),
        "subdomain": string("Subdomain of the pods."),
        "imagePullSecrets": array("Secrets for pulling images.", open_object("A Secret.")),
        "readinessGates": array("Conditions that must hold besides the containers' readiness.", open_object("A gate.")),
        "securityContext": open_object("Privileges of the pods."),
    },
    ("containers",),
)

_POD_TEMPLATE = open_object(
    "Template of the pods.",
    {"metadata": open_object("Labels and annotations of the pods."), "spec": POD_SPEC},
)

RAY_CLUSTER_SPEC: Schema = open_object(
    "Spec of a RayCluster (`ray.io/v1`). Fields that are not listed here pass through.",
    {
        "rayVersion": string("Version of Ray in the images."),
        "headGroupSpec": open_object(
            "The head of the cluster.",
            {
                "rayStartParams": mapping("Arguments of `ray start`.", {"type": "string"}),
                "serviceType": string("Type of the head's Service."),
                "template": _POD_TEMPLATE,
            },
            ("template",),
        ),
        "workerGroupSpecs": array(
            "Groups of equal workers.",
            open_object(
                "A group of workers.",
                {
                    "groupName": string("Name of the group."),
                    "replicas": integer("Workers of the group.", minimum=0),
                    "minReplicas": integer("Fewest workers of the group.", minimum=0),
                    "maxReplicas": integer("Most workers of the group.", minimum=0),
                    "numOfHosts": integer("Pods of one worker."),
                    "rayStartParams": mapping("Arguments of `ray start`.", {"type": "string"}),
                    "template": _POD_TEMPLATE,
                },
                ("groupName", "template"),
            ),
        ),
        "enableInTreeAutoscaling": boolean("Let Ray's own autoscaler change the number of workers."),
        "suspend": boolean("Keep the cluster without pods."),
    },
    ("headGroupSpec",),
)
