"""Run llama.cpp's own HTTP server, from the `xllamacpp` package, in this process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xllamacpp

from pybrix.base.errors import UsageError

_ERRORS_ONLY = 1
_INFORMATION = 3


@dataclass(frozen=True, slots=True)
class LlamacppOptions:
    """What the server is told."""

    model_file: Path
    served_model_name: str
    host: str
    port: int
    num_slots: int = 4
    """Requests generated at once; the others wait. 4."""
    context_tokens: int = 8192
    """KV cache that the slots share, in tokens; 8192."""
    num_threads: int = 0
    """Threads that compute; 0 is one per core."""
    api_keys: tuple[str, ...] = ()
    is_verbose: bool = False


def serve_llamacpp(options: LlamacppOptions, announce: Callable[[str], None]) -> None:
    """Load the model and serve it until a signal ends the process.

    llama.cpp answers 503 while it loads and then whatever model name a request has; requests that come through the
    gateway have the right one. SIGTERM and SIGINT keep their default action: the process ends at once, and what it was
    doing ends with it, as in other engines. `pybrix sidecar drain` is what waits first.

    Raises:
        UsageError: the server cannot start; llama.cpp's own words are on stderr.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    params = xllamacpp.CommonParams()
    params.model.path = str(options.model_file)
    params.model_alias = {options.served_model_name}
    params.hostnames = [options.host]
    params.port = options.port
    params.endpoint_metrics = True
    params.endpoint_slots = False
    params.ui = False
    params.n_parallel = options.num_slots
    params.n_ctx = options.context_tokens
    params.kv_unified = True
    params.api_keys = list(options.api_keys)
    params.verbosity = _INFORMATION if options.is_verbose else _ERRORS_ONLY
    # Threads that spin between two tokens starve everything else on a small machine.
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    if options.num_threads:
        params.cpuparams.n_threads = options.num_threads
        params.cpuparams_batch.n_threads = options.num_threads
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as err:
        raise UsageError(
            f"llama.cpp does not start with {options.model_file} on {options.host}:{options.port}",
            "its reason is above: a taken port or a file that is no GGUF model, mostly",
        ) from err
    announce(f"{options.served_model_name} on {server.listening_address}")
    while True:
        signal.pause()
