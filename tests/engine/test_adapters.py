"""What engines and the sidecar are asked about adapters, and what their answers are taken for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pybrix.engine import adapters
from pybrix.engine.adapters import (
    LONGEST_MESSAGE,
    AdapterProtocol,
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AdapterUnsupported,
    AlreadyLoaded,
    CapacityFull,
    ServedModel,
    SidecarNeeded,
    UnknownAdapter,
    check_load,
    check_unload,
    direct_path,
    parse_list,
    protocol_of,
    render_headers,
    render_load,
    render_unload,
)

VLLM_ALREADY = {
    "error": {
        "message": "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True.",
        "type": "InvalidUserInput",
        "param": None,
        "code": 400,
    }
}
VLLM_NOT_THERE = {"error": {"message": "The lora adapter 'sql' cannot be found.", "type": "NotFoundError", "code": 404}}
VLLM_NO_FILES = {
    "error": {"message": "Loading lora sql failed: No adapter found for /x", "type": "NotFoundError", "code": 404}
}


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("huggingface://org/repo", "org/repo"),
        ("hf://org/repo", "org/repo"),
        ("HF://org/repo/", "org/repo"),
        ("hf://gpt2", "gpt2"),
        ("/models/sql", "/models/sql"),
        ("file:///models/sql%20v2", "/models/sql v2"),
        ("file://localhost/models/sql", "/models/sql"),
    ],
)
def test_what_engines_can_load_themselves(url: str, want: str) -> None:
    assert direct_path(url) == want


@pytest.mark.parametrize("scheme", ["s3", "gcs", "gs", "tos", "http", "https"])
def test_what_has_to_be_fetched_needs_a_sidecar(scheme: str) -> None:
    with pytest.raises(SidecarNeeded, match=f"{scheme}://.*sidecar"):
        direct_path(f"{scheme}://bucket/sql")


@pytest.mark.parametrize(
    "url",
    ["hf://", "hf://org/repo/file", "hf://../x", "file://elsewhere/x", "/models/../etc", "relative", "ftp://x/y", ""],
)
def test_what_means_nothing_to_an_engine_is_refused_before_it_is_asked(url: str) -> None:
    with pytest.raises(AdapterUnsupported) as caught:
        direct_path(url)
    assert not isinstance(caught.value, SidecarNeeded)


@pytest.mark.parametrize(
    ("label", "has_sidecar", "want"),
    [
        (None, False, AdapterProtocol.VLLM),
        ("vllm", False, AdapterProtocol.VLLM),
        ("sglang", False, AdapterProtocol.SGLANG),
        ("xllm", False, AdapterProtocol.VLLM),
        ("sglang", True, AdapterProtocol.SIDECAR),
    ],
)
def test_a_pods_protocol(label: str | None, has_sidecar: bool, want: AdapterProtocol) -> None:
    assert protocol_of(label, has_sidecar=has_sidecar) is want


SOURCE = AdapterSource("sql", "hf://org/sql", {"huggingface_token": "secret"}, {"api-key": "k"})


@pytest.mark.parametrize(
    ("protocol", "path", "body"),
    [
        (AdapterProtocol.VLLM, "/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "org/sql"}),
        (AdapterProtocol.SGLANG, "/load_lora_adapter", {"lora_name": "sql", "lora_path": "org/sql"}),
        (
            AdapterProtocol.SIDECAR,
            "/v1/lora_adapter/load",
            {
                "lora_name": "sql",
                "artifact_url": "hf://org/sql",
                "credentials": {"huggingface_token": "secret"},
                "additional_config": {"api-key": "k"},
            },
        ),
    ],
)
def test_load_requests(protocol: AdapterProtocol, path: str, body: dict[str, Any]) -> None:
    request = render_load(protocol, SOURCE)
    assert (request.method, request.path, json.loads(request.body)) == ("POST", path, body)


def test_a_sidecar_forbids_unknown_fields_so_empty_ones_are_left_out() -> None:
    request = render_load(AdapterProtocol.SIDECAR, AdapterSource("sql", "s3://b/sql"))
    assert json.loads(request.body) == {"lora_name": "sql", "artifact_url": "s3://b/sql"}


@pytest.mark.parametrize(
    ("protocol", "path", "body"),
    [
        (AdapterProtocol.VLLM, "/v1/unload_lora_adapter", {"lora_name": "sql"}),
        (AdapterProtocol.SGLANG, "/unload_lora_adapter", {"lora_name": "sql"}),
        (AdapterProtocol.SIDECAR, "/v1/lora_adapter/unload", {"lora_name": "sql", "cleanup_local": True}),
    ],
)
def test_unload_requests(protocol: AdapterProtocol, path: str, body: dict[str, Any]) -> None:
    request = render_unload(protocol, "sql")
    assert (request.method, request.path, json.loads(request.body)) == ("POST", path, body)


@pytest.mark.parametrize("key", ["two words", "line\r\nX-Injected: 1", "schlüssel"])
def test_an_api_key_that_is_no_header_is_not_sent(key: str) -> None:
    with pytest.raises(AdapterUnsupported) as caught:
        render_headers(AdapterTarget("http://x", api_key=key))
    assert key not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    target = AdapterTarget("http://x", api_key="hunter22")
    request = render_load(AdapterProtocol.SIDECAR, SOURCE)
    assert "hunter22" not in repr(target)
    assert "secret" not in repr(SOURCE) + repr(request)


LOAD_ANSWERS: list[tuple[str, int, Any, type[AdapterRefused]]] = [
    ("vLLM, loaded before", 400, VLLM_ALREADY, AlreadyLoaded),
    (
        "old vLLM, flat",
        400,
        {"object": "error", "message": "The lora adapter 'sql' has already been loaded."},
        AlreadyLoaded,
    ),
    (
        "SGLang, loaded before",
        400,
        {"success": False, "error_message": "LoRA with name sql already exists."},
        AlreadyLoaded,
    ),
    ("our sidecar, loaded before", 400, {"error": "The lora adapter 'sql' has already been loaded."}, AlreadyLoaded),
    ("vLLM without runtime updating", 404, {"detail": "Not Found"}, AdapterUnsupported),
    ("newer vLLM without it", 404, {"error": {"message": "Not Found", "code": 404}}, AdapterUnsupported),
    ("an engine of another kind", 405, {"detail": "Method Not Allowed"}, AdapterUnsupported),
    ("a web server's page", 404, "<html><h1>404</h1></html>", AdapterUnsupported),
    (
        "vLLM without --enable-lora",
        500,
        {
            "error": {
                "message": "Call to add_lora method failed: LoRA is not enabled. Use --enable-lora to enable LoRA."
            }
        },
        AdapterUnsupported,
    ),
    (
        "SGLang without it",
        400,
        {"success": False, "error_message": "LoRA is not enabled. Please set `--enable-lora` to enable LoRA."},
        AdapterUnsupported,
    ),
    ("a sidecar whose engine cannot", 501, {"error": "llamacpp loads no adapters"}, AdapterUnsupported),
    (
        "SGLang that is full",
        400,
        {"success": False, "error_message": "Maximum number of loaded LoRA adapters is 2. Please unload some."},
        CapacityFull,
    ),
    ("a sidecar whose disk is full", 507, {"error": "4 GiB do not fit"}, CapacityFull),
    ("a GPU that is full", 500, {"error": {"message": "CUDA out of memory. Tried to allocate"}}, CapacityFull),
    ("no files there", 404, VLLM_NO_FILES, AdapterRefused),
    ("a wrong key", 401, {"error": "Unauthorized"}, AdapterRefused),
    ("a crash", 500, {"error": {"message": "Internal server error"}}, AdapterRefused),
    ("a redirect", 302, "", AdapterRefused),
]


@pytest.mark.parametrize(
    ("status", "body", "want"), [row[1:] for row in LOAD_ANSWERS], ids=[r[0] for r in LOAD_ANSWERS]
)
def test_answers_to_load(status: int, body: Any, want: type[AdapterRefused]) -> None:
    with pytest.raises(AdapterRefused) as caught:
        check_load(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())
    assert type(caught.value) is want
    assert caught.value.status == status
    assert caught.value.message


@pytest.mark.parametrize(
    ("status", "body", "want"),
    [
        (404, VLLM_NOT_THERE, UnknownAdapter),
        (
            400,
            {"success": False, "error_message": "LoRA with name sql does not exist. Loaded LoRAs: []"},
            UnknownAdapter,
        ),
        (404, {"detail": "Not Found"}, AdapterUnsupported),
        (500, {"error": {"message": "Failed to remove lora adapter 'sql' from the engine."}}, AdapterRefused),
    ],
)
def test_answers_to_unload(status: int, body: Any, want: type[AdapterRefused]) -> None:
    with pytest.raises(AdapterRefused) as caught:
        check_unload(status, json.dumps(body).encode())
    assert type(caught.value) is want


@pytest.mark.parametrize("status", [200, 201])
def test_success(status: int) -> None:
    check_load(status, b"Success: LoRA adapter 'sql' added successfully.")
    check_unload(status, b'{"success": true}')


def test_messages_are_one_bounded_line_without_secrets() -> None:
    body = json.dumps({"error": "s3 refused\nAKIA-secret \x00\x1b[31m" + "x" * 10_000}).encode()
    with pytest.raises(AdapterRefused) as caught:
        check_load(500, body, ("AKIA-secret", "", "no"))
    assert caught.value.message.startswith("s3 refused *** [31mxxx")
    assert len(caught.value.message) == LONGEST_MESSAGE


def test_a_list_is_kept_as_it_was_given() -> None:
    page = {
        "object": "list",
        "data": [
            {"id": "llama", "object": "model", "root": "meta/llama", "parent": None, "max_model_len": 4096},
            {"id": "sql", "object": "model", "root": "/loras/sql", "parent": "llama", "permission": [{}]},
            {"id": "bare"},
        ],
    }
    base, adapter, bare = parse_list(200, json.dumps(page).encode())
    assert base == ServedModel(id="llama", root="meta/llama", max_model_len=4096)
    assert adapter == ServedModel(id="sql", root="/loras/sql", parent="llama")
    assert [model.is_adapter for model in (base, adapter, bare)] == [False, True, False]


@pytest.mark.parametrize(
    ("status", "body"), [(503, b"loading"), (200, b"<html>"), (200, b"[]"), (200, b'{"data":[{}]}')]
)
def test_what_is_no_list_is_refused(status: int, body: bytes) -> None:
    with pytest.raises(AdapterRefused):
        parse_list(status, body)


def test_every_error_has_a_reason_of_its_own() -> None:
    def below(kind: type[adapters.AdapterError]) -> list[type[adapters.AdapterError]]:
        return [kind, *(child for direct in kind.__subclasses__() for child in below(direct))]

    kinds = below(adapters.AdapterError)
    assert [kind.reason for kind in kinds] == [kind.__name__ for kind in kinds]
