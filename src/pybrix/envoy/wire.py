"""What Envoy and the brain say to each other: headers, cluster names, access-log fields.

The brain answers a decision with these headers; Envoy routes by them and brings the reservation back in the access
log. None of them is ever accepted from a client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ENDPOINTS_HEADER = "x-pybrix-endpoints"
"""Brain to Envoy: `ip:port` list, comma-separated, best first; retries walk down the list."""
CLUSTER_HEADER = "x-pybrix-cluster"
"""Brain (or Envoy's fallback) to Envoy's routes: a name made by `cluster_name`."""
RESERVATION_HEADER = "x-pybrix-reservation"
"""Brain to Envoy: the id that the access log brings back."""
STRATEGY_HEADER = "x-pybrix-strategy"
"""Brain to Envoy: the strategy that chose; Envoy answers it as `routing-strategy`."""
SESSION_HEADER = "x-pybrix-session"
"""Brain to Envoy: by what the client comes back to the same endpoint; Envoy answers it as `x-session-id`."""
PROFILE_HEADER = "x-pybrix-profile"
"""Brain to Envoy: the configuration profile that counted; Envoy answers it as `x-aibrix-config-profile`."""
USER_HEADER = "x-pybrix-user"
"""Envoy to the brain (and the engine): the user whose API key the request had."""
NAMESPACE_HEADER = "x-pybrix-namespace"
"""Client to gateway: the namespace of the model."""
EXPLAIN_HEADER = "x-pybrix-explain"
"""Client to gateway: `1` asks for an explanation of the decision in the answer; it needs the admin token."""
ADMIN_TOKEN_HEADER = "x-pybrix-admin-token"
"""Client to gateway: the admin token. Neither of the two ever goes on to an engine."""
EXPLANATION_HEADER = "x-pybrix-explanation"
"""Gateway to client: the explanation, compact JSON."""

FALLBACK_STRATEGY = "fallback-least-request"
"""`routing-strategy` of a response that Envoy routed without the brain."""

STEERING_HEADERS = (
    ENDPOINTS_HEADER,
    CLUSTER_HEADER,
    RESERVATION_HEADER,
    STRATEGY_HEADER,
    SESSION_HEADER,
    PROFILE_HEADER,
    USER_HEADER,
    "target-pod",
    "target-pod-ip",
)
"""Stripped from what clients send, before any filter runs; so is every header that starts with `x-envoy-`."""

DECIDED_HEADERS = (
    ENDPOINTS_HEADER,
    CLUSTER_HEADER,
    RESERVATION_HEADER,
    STRATEGY_HEADER,
    SESSION_HEADER,
    PROFILE_HEADER,
)
"""What the brain may set of a request's headers."""

DECISION_HEADERS = (
    "routing-strategy",
    NAMESPACE_HEADER,
    USER_HEADER,
    "user",
    "x-session-id",
    "x-aibrix-session-key",
    "config-profile",
    "external-filter",
    "traceparent",
)
"""What the brain sees of a request's headers, besides host, authorization and `x-request-id`."""

ADMIN_HEADERS = (EXPLAIN_HEADER, ADMIN_TOKEN_HEADER)
"""What the brain sees besides, where there is an admin token; elsewhere they are stripped like steering headers."""

REFUSAL_HEADERS = ("content-type", "retry-after", EXPLANATION_HEADER)
REFUSAL_HEADER_PREFIXES = ("x-error-", "x-ratelimit-")
"""Headers of the brain's refusals that go on to the client."""
ANSWER_HEADER_PREFIXES = ("x-ratelimit-", EXPLANATION_HEADER)
"""Headers of the brain's decisions that are added to the client's answer."""

API_KEY_PREFIX = "pbx_"
API_KEY_BYTES = 47
"""An API key is the prefix and 32 random bytes in URL-safe base64; Envoy hashes nothing of another length."""

INFERENCE_PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/rerank",
    "/v1/score",
    "/v1/classify",
    "/tokenize",
    "/detokenize",
)
"""Paths whose POST requests name a model in a JSON body and go to its endpoints."""

NAMESPACE_PREFIX = "/namespaces/"
"""`/namespaces/NS/v1/...` addresses the models of a namespace; Envoy takes the prefix away towards the engine."""

HEALTH_PATH = "/healthz"
"""Envoy asks it on the decision socket; any answer but 200 means: route without the brain. On the port of clients,
where load balancers ask, Envoy itself answers 200."""

UNAVAILABLE_WIRE_STATUS = 480
"""Brain to Envoy, for a refusal that the client sees as 503. A 5xx from an HTTP `ext_authz` server means that the
server itself failed, and Envoy would fail open; Envoy's local reply turns this unassigned status into 503."""


def wire_status(status: int) -> int:
    """Return the status with which the brain answers a refusal that the client sees as `status`.

    Only 503 is another one: it travels as `UNAVAILABLE_WIRE_STATUS`.
    """
    return UNAVAILABLE_WIRE_STATUS if status == 503 else status


def split_namespace(path: str) -> tuple[str, str]:
    """Split `/namespaces/NS/v1/...` into `NS` and `/v1/...`; the namespace of any other path is empty."""
    if not path.startswith(NAMESPACE_PREFIX):
        return "", path
    namespace, slash, rest = path[len(NAMESPACE_PREFIX) :].partition("/")
    return namespace, slash + rest


def cluster_name(namespace: str, model: str) -> str:
    """Return the name of the Envoy cluster of a model, `namespace/model`: no namespace contains a slash."""
    return f"{namespace}/{model}"


def split_cluster(name: str) -> tuple[str, str]:
    """Return namespace and model of a name that `cluster_name` made."""
    namespace, _, model = name.partition("/")
    return namespace, model


@dataclass(frozen=True, slots=True)
class PodEndpoint:
    """One address of a model. `pod_uid` is its identity; `pod_name` is only shown to people."""

    address: str
    port: int
    pod_uid: str
    pod_name: str


@dataclass(frozen=True, slots=True)
class ModelCluster:
    """A model of a namespace and where it is served; no endpoints means it is known and not ready.

    `parent` is the base model of an adapter, "" for any other model.
    """

    namespace: str
    model: str
    endpoints: tuple[PodEndpoint, ...] = ()
    parent: str = ""

    @property
    def name(self) -> str:
        return cluster_name(self.namespace, self.model)


def namespaces_of(models: Iterable[ModelCluster]) -> dict[str, tuple[str, ...]]:
    """Return which namespaces have a model of a name, sorted; a request that names no namespace needs exactly one."""
    found: dict[str, tuple[str, ...]] = {}
    for namespace, model in sorted({(cluster.namespace, cluster.model) for cluster in models}):
        found[model] = (*found.get(model, ()), namespace)
    return found


class LogField:
    """Keys of the one access-log record per request (and of its periodic renewals)."""

    RESERVATION = "reservation"
    REQUEST_ID = "request_id"
    RECORD_TYPE = "type"
    """`%ACCESS_LOG_TYPE%`: DownstreamEnd, or DownstreamPeriodic every 10 s of a long stream."""
    CLUSTER = "cluster"
    UPSTREAM = "upstream"
    """`ip:port` of the endpoint that answered."""
    STATUS = "status"
    FLAGS = "flags"
    """`%RESPONSE_FLAGS%`; `-` when nothing is to be said."""
    TTFT_MS = "ttft_ms"
    DURATION_MS = "duration_ms"
    PROMPT_TOKENS = "prompt_tokens"
    COMPLETION_TOKENS = "completion_tokens"
    CACHED_TOKENS = "cached_tokens"
    ATTEMPTS = "attempts"


USAGE_FIELDS = (LogField.PROMPT_TOKENS, LogField.COMPLETION_TOKENS, LogField.CACHED_TOKENS)
"""Keys that are left out where token usage is not counted."""
