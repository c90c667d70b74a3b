"""`pybrix llamacpp`: run a real model with llama.cpp."""

from __future__ import annotations

import importlib.util
import sys
from functools import partial
from pathlib import Path

import click

from pybrix.cli.models import cache_dir_option, show_progress


@click.command(context_settings={"auto_envvar_prefix": "PYBRIX_LLAMACPP", "show_default": True})
@click.option("--model", required=True, metavar="NAME|FILE", help="smollm2 (fetched when needed), or a GGUF file.")
@click.option("--served-model-name", metavar="NAME", help="Name that clients use; --model, or the file's stem.")
@click.option("--host", default="0.0.0.0", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, help="Port to listen on.")
@click.option("--parallel", type=click.IntRange(1), default=4, help="Requests generated at once; others wait.")
@click.option("--ctx-size", type=click.IntRange(64), default=8192, help="KV cache shared by them, in tokens.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads that compute; 0 is one per core.")
@click.option("--api-key", multiple=True, metavar="KEY", help="Bearer token that requests need.")
@click.option("--verbose", is_flag=True, help="Show what llama.cpp logs.")
@cache_dir_option
def llamacpp(
    model: str,
    served_model_name: str | None,
    host: str,
    port: int,
    parallel: int,
    ctx_size: int,
    threads: int,
    api_key: tuple[str, ...],
    verbose: bool,
    cache_dir: Path | None,
) -> None:
    """Run a real model with llama.cpp behind an OpenAI API.

    Needs the extra `llm` (pip install 'pybrix[llm]'). The server is llama.cpp's own: /v1/chat/completions,
    /v1/completions, /v1/models, /tokenize, /health, and /metrics with `llamacpp:` series. It takes any model name in a
    request; through the gateway only the right one arrives. SIGTERM ends it at once.

    \b
    Examples:
      pybrix llamacpp --model smollm2 --host 127.0.0.1 --port 8000
      pybrix llamacpp --model ./qwen.gguf --served-model-name qwen --ctx-size 16384
    """
    from pybrix.base.errors import UsageError
    from pybrix.engine.modelfiles import PACKAGED_MODELS, default_cache_dir, ensure_model

    if importlib.util.find_spec("xllamacpp") is None:
        raise UsageError("llama.cpp is not installed", "pip install 'pybrix[llm]'")
    if model in PACKAGED_MODELS:
        file = ensure_model(model, (cache_dir or default_cache_dir()).expanduser(), show_progress)
    else:
        file = Path(model).expanduser()
        if not file.is_file():
            raise UsageError(
                f"--model: {model} is no file", f"give a GGUF file, or one of: {', '.join(PACKAGED_MODELS)}"
            )

    try:
        from pybrix.engine.llamacpp import LlamacppOptions, serve_llamacpp
    except ImportError as err:
        # The wheel brings llama.cpp, but not the OpenMP runtime that it is linked to.
        raise UsageError(f"llama.cpp cannot be loaded: {err}", "apt-get install libgomp1") from err

    options = LlamacppOptions(
        model_file=file,
        served_model_name=served_model_name or (model if model in PACKAGED_MODELS else file.stem),
        host=host,
        port=port,
        num_slots=parallel,
        context_tokens=ctx_size,
        num_threads=threads,
        api_keys=api_key,
        is_verbose=verbose,
    )
    serve_llamacpp(options, partial(print, "pybrix llamacpp:", file=sys.stderr, flush=True))
