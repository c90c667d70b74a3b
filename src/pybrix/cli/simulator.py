"""`pybrix simulator`: a vLLM-compatible engine without a GPU."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from pybrix.cli.vllm_arguments import translate_arguments

_KV_CACHE_TOKENS = 131_072


class VllmCommand(click.Command):
    """Accept a command line written for vLLM: options without a meaning here are named and ignored."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        translated, ignored = translate_arguments(args)
        if ignored:
            print(f"pybrix simulator: ignored: {' '.join(ignored)}", file=sys.stderr)
        return super().parse_args(ctx, translated)


@click.command(cls=VllmCommand, context_settings={"auto_envvar_prefix": "PYBRIX_SIMULATOR", "show_default": True})
@click.argument("model_tag", required=False)
@click.option("--model", metavar="NAME", help="Model to stand in for; the same as MODEL_TAG.")
@click.option("--served-model-name", metavar="NAME", multiple=True, help="Name(s) that requests use; --model.")
@click.option("--host", default="0.0.0.0", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 chooses a free one.")
@click.option("--max-num-seqs", type=click.IntRange(1), default=256, help="Requests in one batch; others wait.")
@click.option("--max-num-batched-tokens", type=click.IntRange(1), default=8192, help="Tokens computed in one step.")
@click.option("--max-model-len", type=click.IntRange(2), default=32768, help="Longest prompt and answer, in tokens.")
@click.option("--block-size", type=click.IntRange(1), default=16, help="Tokens in one KV cache block.")
@click.option("--num-gpu-blocks-override", type=click.IntRange(1),
              help="KV cache blocks; as many as 131,072 tokens need, or one sequence of the longest.")  # fmt: skip
@click.option("--enable-lora/--no-enable-lora", default=False, help="Serve LoRA adapters.")
@click.option("--max-loras", type=click.IntRange(1), default=1, help="Adapters in one batch.")
@click.option("--max-cpu-loras", type=click.IntRange(1), help="Adapters kept in memory; as --max-loras.")
@click.option("--lora-modules", multiple=True, metavar="NAME=PATH", help="Adapters that are there from the start.")
@click.option("--allow-runtime-lora-updating/--no-allow-runtime-lora-updating", default=False,
              envvar="VLLM_ALLOW_RUNTIME_LORA_UPDATING", help="Have vLLM's paths that load adapters.")  # fmt: skip
@click.option("--lora-load-s", type=click.FloatRange(0), default=0.2, help="How long an adapter takes to read.")
@click.option("--max-loaded-loras", type=click.IntRange(1), help="Refuse to load more, as SGLang does; no limit.")
@click.option("--lora-needs-files", is_flag=True, help="Refuse absolute paths without an adapter_config.json.")
@click.option("--lora-failure", multiple=True, metavar="KIND=VALUE",
              help="Fail loads: first=NUMBER of them, path=TEXT that their path has, hang=TEXT.")  # fmt: skip
@click.option("--seed", type=int, default=0, help="Answers and failures follow from it.")
@click.option("--api-key", multiple=True, metavar="KEY", help="Bearer token that /v1 asks for.")
@click.option(
    "--prefill-tokens-per-s", type=click.FloatRange(0, min_open=True), default=50_000.0, help="Prefill speed."
)
@click.option("--decode-step-ms", type=click.FloatRange(0), default=4.0, help="Time of one step of the batch.")
@click.option("--decode-per-sequence-ms", type=click.FloatRange(0), default=0.02, help="What each sequence adds to it.")
@click.option("--time-scale", type=click.FloatRange(0), default=1.0, help="Factor on all durations; 0 is no waiting.")
@click.option("--startup-s", type=click.FloatRange(0), default=0.0, help="How long the model takes to load.")
@click.option("--ray-address", default="", metavar="HOST:PORT",
              help="Spread over the Ray cluster at this address, as vLLM does over several machines.")  # fmt: skip
@click.option("--ray-nodes", type=click.IntRange(1), default=1, show_default=True,
              help="Nodes of that cluster: serve when all are there, fail when one is lost.")  # fmt: skip
@click.option("--drain-on-sigterm", type=click.FloatRange(0), default=0.0, metavar="SECONDS",
              help="Let requests end within so many seconds after SIGTERM; 0 drops them, as vLLM does.")  # fmt: skip
@click.option("--failure", multiple=True, metavar="KIND[=P]",
              help="Fail requests with probability P: die-before-headers, reset-before-headers, cut-stream, error-500, "
                   "error-503, hang.")  # fmt: skip
def simulator(model_tag: str | None, model: str | None, served_model_name: tuple[str, ...], **settings: Any) -> None:
    """Run a vLLM-compatible engine without a GPU.

    It speaks vLLM's HTTP API and metrics; batching, KV cache and timing are simulated, and the answers are made up from
    the prompt and the seed. Options that only mean something to vLLM are accepted and ignored. Every option has an
    environment variable, such as PYBRIX_SIMULATOR_PORT.

    \b
    Examples:
      pybrix simulator --model llama-3-8b --port 8000
      pybrix simulator meta-llama/Llama-3.1-8B --served-model-name llama --max-num-seqs 8 --decode-step-ms 20
      pybrix simulator --model m --time-scale 0              as fast as the machine can
      pybrix simulator --model m --failure cut-stream=0.05   one stream of twenty breaks
      pybrix simulator --model m --ray-address 10.0.0.7:6379 --ray-nodes 2   needs a Ray cluster of two nodes
      pybrix simulator --model m --enable-lora --lora-modules sql=/loras/sql
    """
    import asyncio
    from functools import partial

    import uvloop

    from pybrix.base.errors import UsageError
    from pybrix.simulator.app import serve
    from pybrix.simulator.failures import parse_failures
    from pybrix.simulator.lora import LoraOptions, parse_lora_failures, parse_module
    from pybrix.simulator.model import ModelOptions
    from pybrix.simulator.options import SimulatorOptions

    if model_tag and model and model_tag != model:
        raise UsageError(f"two models: {model_tag} and --model {model}", "give one")
    root = model or model_tag or ""
    num_blocks = settings["num_gpu_blocks_override"]
    if num_blocks is None:
        num_blocks = math.ceil(max(_KV_CACHE_TOKENS, settings["max_model_len"]) / settings["block_size"])
    options = SimulatorOptions(
        served_model_names=served_model_name or ((root,) if root else ()),
        root=root,
        host=settings["host"],
        port=settings["port"],
        max_model_len=settings["max_model_len"],
        seed=settings["seed"],
        api_keys=settings["api_key"],
        time_scale=settings["time_scale"],
        startup_s=settings["startup_s"],
        ray_address=settings["ray_address"],
        ray_nodes=settings["ray_nodes"],
        drain_on_sigterm_s=settings["drain_on_sigterm"],
        model=ModelOptions(
            max_num_seqs=settings["max_num_seqs"],
            max_num_batched_tokens=settings["max_num_batched_tokens"],
            block_size=settings["block_size"],
            num_blocks=num_blocks,
            prefill_tokens_per_s=settings["prefill_tokens_per_s"],
            decode_step_s=settings["decode_step_ms"] / 1000,
            decode_per_sequence_s=settings["decode_per_sequence_ms"] / 1000,
        ),
        failures=parse_failures(settings["failure"]),
        lora=LoraOptions(
            is_enabled=settings["enable_lora"],
            allows_updating=settings["allow_runtime_lora_updating"],
            max_loras=settings["max_loras"],
            max_cpu_loras=settings["max_cpu_loras"],
            max_loaded_loras=settings["max_loaded_loras"],
            load_s=settings["lora_load_s"],
            needs_files=settings["lora_needs_files"],
            modules=tuple(parse_module(text) for text in settings["lora_modules"]),
            failures=parse_lora_failures(settings["lora_failure"]),
        ),
    )
    announce = partial(print, "pybrix simulator:", file=sys.stderr, flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, announce))
