"""Labels, annotations and finalizers on the wire, as AIBrix and Kubernetes spell them."""

from __future__ import annotations

MODEL_NAME = "model.aibrix.ai/name"
"""Label (or annotation, where the name is no label value): the model that a pod serves."""
MODEL_PORT = "model.aibrix.ai/port"
"""Label: the serving port, 8000 when absent."""
METRIC_PORT = "model.aibrix.ai/metric-port"
"""Label: the port of `/metrics`, the serving port when absent."""
MODEL_ENGINE = "model.aibrix.ai/engine"
"""Label: vllm (default), sglang, trtllm, llamacpp."""
DEFAULT_MODEL_PORT = 8000

POD_TEMPLATE_HASH = "pod-template-hash"
DEPLOYMENT_REVISION = "deployment.kubernetes.io/revision"
DEPLOYMENT_DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
DEPLOYMENT_MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
POD_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY_ENDPOINTSLICE = "endpointslice.kubernetes.io/managed-by"
FOREGROUND_DELETION = "foregroundDeletion"
ORPHAN = "orphan"
