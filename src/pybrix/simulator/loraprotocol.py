"""Requests to load and unload adapters, and the answers in vLLM's words and in SGLang's. Pure: bytes in, bytes out.

Sources: vLLM's `entrypoints/openai/models/serving.py`, SGLang's `managers/tokenizer_control_mixin.py` and
`lora/lora_registry.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pybrix.engine.errors import ErrorBody, ErrorEnvelope
from pybrix.simulator.lora import Adapter, LoraError, LoraProblem


class LoadRequest(msgspec.Struct, frozen=True):
    """Body of a load, of vLLM and of SGLang."""

    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadRequest(msgspec.Struct, frozen=True):
    lora_name: str


class FailureRequest(msgspec.Struct, frozen=True):
    """Body of `POST /simulator/lora`; what is not given stays as it is."""

    failures: list[str] | None = None
    load_s: float | None = None


def render_vllm_success(name: str, *, is_load: bool) -> bytes:
    """Say that it is done: a plain text."""
    return f"Success: LoRA adapter '{name}' {'added' if is_load else 'removed'} successfully.".encode()


def render_vllm_error(err: LoraError, max_loaded: int | None) -> tuple[int, bytes]:
    """Return status and body of a refusal."""
    status, kind, message = _vllm_words(err, max_loaded)
    return status, msgspec.json.encode(ErrorEnvelope(ErrorBody(message, kind, status)))


def _vllm_words(err: LoraError, max_loaded: int | None) -> tuple[int, str, str]:
    name = err.name
    match err.problem:
        case LoraProblem.INCOMPLETE:
            return 400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."
        case LoraProblem.ALREADY_LOADED:
            return (
                400,
                "InvalidUserInput",
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True.",
            )
        case LoraProblem.UNKNOWN:
            return 404, "NotFoundError", f"The lora adapter '{name}' cannot be found."
        case LoraProblem.NO_FILES:
            return 404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {err.path}"
        case LoraProblem.DISABLED:
            words = "LoRA is not enabled. Use --enable-lora to enable LoRA."
        case LoraProblem.FULL:
            words = f"Maximum number of loaded LoRA adapters is {max_loaded}."
        case LoraProblem.ON_PURPOSE:
            words = "This failure was asked for."
    return 500, "InternalServerError", f"Call to add_lora method failed: {words}"


def render_sglang(adapters: Iterable[Adapter], err: LoraError | None, max_loaded: int | None) -> tuple[int, bytes]:
    """Return status and body of an answer, which tells what is loaded now; `err` is None when it was done."""
    loaded = {adapter.name: adapter.path for adapter in adapters}
    body: dict[str, object] = {"success": err is None, "error_message": "", "loaded_adapters": loaded}
    if err is not None:
        body["error_message"] = _sglang_words(err, list(loaded), max_loaded)
    return 200 if err is None else 400, msgspec.json.encode(body)


def _sglang_words(err: LoraError, loaded: list[str], max_loaded: int | None) -> str:
    name = err.name
    match err.problem:
        case LoraProblem.INCOMPLETE:
            return "lora_name and lora_path must be provided"
        case LoraProblem.ALREADY_LOADED:
            return f"LoRA with name {name} already exists. Loaded LoRAs: {loaded}"
        case LoraProblem.UNKNOWN:
            return f"LoRA with name {name} does not exist. Loaded LoRAs: {loaded}"
        case LoraProblem.NO_FILES:
            return f"Failed to load LoRA adapter {name} from {err.path}: no such file or repository"
        case LoraProblem.DISABLED:
            return "LoRA is not enabled. Please set `--enable-lora` to enable LoRA."
        case LoraProblem.FULL:
            return (
                f"Cannot load LoRA adapter {name} at path {err.path}. Maximum number of loaded LoRA adapters is "
                f"{max_loaded}. Please unload some LoRA adapters before loading new ones."
            )
        case LoraProblem.ON_PURPOSE:
            return "This failure was asked for."
