"""OpenTelemetry spans, made by Envoy: one for each sampled request, with what the brain decided as attributes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from pybrix.api.config import GatewayConfiguration, TracingConfiguration
from pybrix.envoy import wire
from pybrix.envoy.scripts import METADATA

Config = dict[str, Any]

TRACING_CLUSTER = "pybrix_tracing"
DEFAULT_PATH = "/v1/traces"
_TYPE = "type.googleapis.com/"
_EXPORT_TIMEOUT = "5s"
_CONNECT_TIMEOUT = "1s"
_PORTS = {"http": 4318, "https": 443, "grpc": 4317, "grpcs": 443}
_SYSTEM_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def render_tracing(config: GatewayConfiguration) -> Config | None:
    """Return the connection manager's `tracing`; None where nothing is configured.

    The decision travels as request headers and route metadata anyway: attributes are read from these when a request
    ends, so a request without a span costs nothing.
    """
    tracing = config.tracing
    if not tracing.endpoint:
        return None
    percent = {"value": 100.0 * tracing.sampling_ratio}
    return {
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_TYPE}envoy.config.trace.v3.OpenTelemetryConfig",
                **_exporter(tracing),
                "service_name": tracing.service_name,
            },
        },
        "random_sampling": percent,
        # A client's x-client-trace-id is no reason for a span; its traceparent is the standard's way to ask for one.
        "client_sampling": {"value": 0.0},
        "overall_sampling": {"value": 100.0},
        "custom_tags": _attributes(),
    }


def render_tracing_cluster(tracing: TracingConfiguration) -> Config | None:
    """Return the collector's cluster; None where nothing is configured."""
    if not tracing.endpoint:
        return None
    url = urlsplit(tracing.endpoint)
    host = url.hostname or ""
    address = {"address": host, "port_value": url.port or _PORTS[url.scheme]}
    endpoint = {"endpoint": {"address": {"socket_address": address}}}
    cluster: Config = {
        "name": TRACING_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": TRACING_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if _is_grpc(url.scheme):
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if url.scheme in ("https", "grpcs"):
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "auto_sni_san_validation": True,
                "common_tls_context": {"validation_context": {"trusted_ca": {"filename": _SYSTEM_CERTIFICATES}}},
            },
        }
    return cluster


def _exporter(tracing: TracingConfiguration) -> Config:
    url = urlsplit(tracing.endpoint)
    if _is_grpc(url.scheme):
        service = {"envoy_grpc": {"cluster_name": TRACING_CLUSTER, "authority": url.netloc}, "timeout": _EXPORT_TIMEOUT}
        return {"grpc_service": service}
    path = url.path if url.path not in ("", "/") else DEFAULT_PATH
    uri = f"{url.scheme}://{url.netloc}{path}"
    return {"http_service": {"http_uri": {"uri": uri, "cluster": TRACING_CLUSTER, "timeout": _EXPORT_TIMEOUT}}}


def _is_grpc(scheme: str) -> bool:
    return scheme in ("grpc", "grpcs")


def _attributes() -> list[Config]:
    """Return what a span says besides Envoy's own attributes; what is not there is left out."""
    headers = {
        "pybrix.strategy": wire.STRATEGY_HEADER,
        "pybrix.ranking": wire.ENDPOINTS_HEADER,
        "pybrix.reservation": wire.RESERVATION_HEADER,
    }
    metadata = {
        "gen_ai.request.model": ("route", "model"),
        "pybrix.namespace": ("route", "namespace"),
        "pybrix.pod": ("host", "pod"),
    }
    usage = {
        "gen_ai.usage.input_tokens": wire.LogField.PROMPT_TOKENS,
        "gen_ai.usage.output_tokens": wire.LogField.COMPLETION_TOKENS,
    }
    found: list[Config] = [{"tag": tag, "request_header": {"name": name}} for tag, name in headers.items()]
    found += [{"tag": tag, "metadata": _metadata(kind, key)} for tag, (kind, key) in metadata.items()]
    found += [{"tag": tag, "metadata": _metadata("request", "usage", key)} for tag, key in usage.items()]
    found.append({"tag": "pybrix.endpoint", "value": "%UPSTREAM_HOST%"})
    return found


def _metadata(kind: str, *path: str) -> Config:
    return {"kind": {kind: {}}, "metadata_key": {"key": METADATA, "path": [{"key": key} for key in path]}}
