"""Configuration kinds of pybrix's own components: defaulted and validated here, overridden only by flags."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from pybrix.api.meta import Value

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]

API_VERSION = "config.pybrix.ai/v1alpha1"


class GatewayConfiguration(Value, frozen=True):
    """How a gateway (Envoy and brain) listens and routes."""

    api_version: str = API_VERSION
    kind: str = "GatewayConfiguration"
    address: str = "127.0.0.1"
    """Address that clients connect to; 127.0.0.1."""
    port: Port = 8080
    """Port that clients connect to; 8080."""
    namespaces: list[str] = []
    """Namespaces whose pods are routed to; empty means all."""
    routing_strategy: str = "least-request"
    """Strategy of requests that name none; least-request."""
    body_limit_bytes: Positive = 32 * 1024 * 1024
    """Largest request body; above it the answer is 413. 32 MiB."""
    decision_timeout_ms: Positive = 100
    """How long Envoy waits for the brain before it routes by itself; 100."""
    stream_idle_timeout_s: PositiveSeconds = 600.0
    """A stream without a byte for so long is ended; 600."""
    connect_timeout_s: PositiveSeconds = 1.0
    """How long a connection to an engine may take before the next endpoint is tried; 1."""
    reservation_renewal_s: PositiveSeconds = 10.0
    """Interval of access-log renewals of long streams; three missed ones release the reservation. 10."""
    is_usage_counted: bool = True
    """Whether Envoy reads token usage from responses; true."""
    envoy_workers: Positive = 1
    """Envoy worker threads; 1."""
    drain_timeout_s: PositiveSeconds = 30.0
    """How long streams may go on after a listener drains; 30."""
