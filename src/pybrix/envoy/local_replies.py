"""Answers that Envoy gives itself, in OpenAI's shape."""

from __future__ import annotations

import json
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.envoy import replies, wire
from pybrix.envoy.scripts import METADATA

Config = dict[str, Any]

_KEEP = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
MAX_HEADERS = 100
MAX_HEADERS_KIB = 60
"""How many headers, and how many KiB of them, a request may have; Envoy's own defaults."""
ROUTE_MODEL = f"%METADATA(ROUTE:{METADATA}:model)%"


def header(name: str, value: str) -> Config:
    """Return a header to set, whatever it was before."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def retry_after() -> Config:
    """Return the header that asks a client to come again soon."""
    return header("retry-after", str(replies.RETRY_AFTER_S))


_REQUEST_ID = header("request-id", "%REQ(x-request-id)%")


def render_local_replies(config: GatewayConfiguration) -> Config:
    """Return the rules, first match first: bodies that are ours already are kept, Envoy's own words are wrapped."""
    refused_by_brain = _flags("UAEX")
    ours = _expression("response.code_details in ['direct_response', 'lua_response']")
    too_large = replies.invalid(
        f"the request body is larger than the limit of {config.body_limit_bytes} bytes", "request_too_large"
    )
    large_headers = replies.invalid(
        f"the request has more than {MAX_HEADERS} headers, or more than {MAX_HEADERS_KIB} KiB of them; send fewer",
        "headers_too_large",
    )
    # The brain's and the fallback's 400 are above: this is what cannot even be read.
    malformed = replies.invalid(
        "this is not a valid HTTP request (%RESPONSE_CODE_DETAILS%); check its request line and headers",
        "malformed_request",
    )
    unreachable = replies.error_body("no endpoint could be reached; retry shortly", "api_error", "endpoint_unreachable")
    broken = replies.error_body("the endpoint broke the request off", "api_error", "endpoint_reset")
    timeout = replies.error_body("nothing was sent for too long", "api_error", "timeout")
    return {
        "mappers": [
            {
                "filter": {
                    "and_filter": {"filters": [refused_by_brain, status_filter("EQ", wire.UNAVAILABLE_WIRE_STATUS)]}
                },
                "status_code": 503,
                "headers_to_add": [_REQUEST_ID],
            },
            {"filter": refused_by_brain, "headers_to_add": [_REQUEST_ID]},
            {"filter": ours, "headers_to_add": [_REQUEST_ID]},
            mapper(
                _flags("UH"),
                replies.no_endpoints(ROUTE_MODEL),
                headers=[retry_after(), header(replies.NO_MODEL_BACKENDS_HEADER, "true")],
            ),
            mapper(status_filter("EQ", 413), too_large, headers=[header(replies.BAD_BODY_HEADER, "true")]),
            mapper(status_filter("EQ", 431), large_headers),
            mapper(status_filter("EQ", 400), malformed),
            mapper(_flags("UF"), unreachable, headers=[retry_after()]),
            mapper(_flags("UC", "UR", "UPE"), broken, status=502, headers=[retry_after()]),
            mapper(_flags("SI", "UT", "DT", "UMSDR"), timeout, status=504),
            mapper(status_filter("GE", 500), generic("api_error", "gateway_error")),
            mapper(status_filter("GE", 400), generic("invalid_request_error", "bad_request")),
        ],
        "body_format": _KEEP,
    }


def generic(kind: str, code: str) -> replies.ErrorBody:
    """Return a body that says what Envoy says."""
    return replies.error_body("the gateway answered %RESPONSE_CODE% (%RESPONSE_CODE_DETAILS%)", kind, code)


def mapper(
    matches: Config, body: replies.ErrorBody, status: int | None = None, headers: list[Config] | None = None
) -> Config:
    """Return the rule by which what matches is answered with a body of ours."""
    rule: Config = {
        "filter": matches,
        "body_format_override": {"json_format": json.loads(json.dumps(body)), "content_type": "application/json"},
    }
    if status is not None:
        rule["status_code"] = status
    rule["headers_to_add"] = [_REQUEST_ID, *(headers or [])]
    return rule


def _flags(*flags: str) -> Config:
    return {"response_flag_filter": {"flags": list(flags)}}


def status_filter(operator: str, status: int) -> Config:
    """Match by status: EQ, GE or LE."""
    value = {"default_value": status, "runtime_key": f"pybrix.local_reply.{operator.lower()}_{status}"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _expression(text: str) -> Config:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                "expression": text,
            },
        }
    }
