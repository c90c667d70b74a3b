"""Turn a command line written for vLLM into one for the simulator, so that manifests for vLLM run unchanged.

Only options that vLLM has are let through: a misspelt option of the simulator's own is still an error.
"""

from __future__ import annotations

# Options of `vllm serve` whose value means nothing to a simulator.
_WITH_VALUE_TEXT = (
    "--tensor-parallel-size -tp --pipeline-parallel-size -pp --data-parallel-size -dp --dtype "
    "--gpu-memory-utilization --tokenizer --tokenizer-mode --revision --download-dir --load-format "
    "--quantization -q --kv-cache-dtype --swap-space --cpu-offload-gb --chat-template --response-role "
    "--tool-call-parser --reasoning-parser --uvicorn-log-level --max-lora-rank "
    "--kv-transfer-config --kv-events-config --compilation-config "
    "--distributed-executor-backend --device --max-logprobs --speculative-config --generation-config "
    "--override-generation-config --hf-overrides --rope-scaling --limit-mm-per-prompt --max-seq-len-to-capture "
    "--scheduling-policy --guided-decoding-backend --task --runner --root-path --ssl-keyfile --ssl-certfile "
    "--max-log-len --prefix-caching-hash-algo --config-format --code-revision --tokenizer-revision "
    "--num-scheduler-steps --preemption-mode --model-impl --async-scheduling-policy --allowed-origins "
    "--chat-template-content-format --served-model-config --ray-workers-use-nsight --scheduler-cls "
    "--worker-cls --api-server-count --data-parallel-address --data-parallel-rpc-port "
    "--data-parallel-size-local --data-parallel-start-rank"
)
_WITH_VALUE = frozenset(_WITH_VALUE_TEXT.split())
_FLAGS_TEXT = (
    "--trust-remote-code --enforce-eager --enable-prefix-caching --no-enable-prefix-caching "
    "--disable-log-requests --no-enable-log-requests --enable-log-requests --disable-log-stats "
    "--enable-chunked-prefill --no-enable-chunked-prefill --enable-auto-tool-choice "
    "--disable-custom-all-reduce --disable-sliding-window --enable-expert-parallel "
    "--enable-prompt-tokens-details --enable-reasoning --enable-force-include-usage "
    "--disable-uvicorn-access-log --disable-fastapi-docs --use-v2-block-manager --async-scheduling "
    "--enable-sleep-mode --skip-tokenizer-init --enable-server-load-tracking --language-model-only "
    "--enable-request-id-headers --return-tokens-as-token-ids --disable-frontend-multiprocessing --headless"
)
_SEVERAL_VALUES = frozenset(("--served-model-name", "--lora-modules"))
_FLAGS = frozenset(_FLAGS_TEXT.split())


def translate_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments for the simulator, and those that were left out.

    Drops a leading `serve` or `vllm serve`, spells `--max_model_len` as `--max-model-len`, and repeats
    options that vLLM gives several values, such as `--served-model-name`, for each of them.
    """
    kept: list[str] = []
    ignored: list[str] = []
    for word in ("vllm", "serve"):
        if arguments[:1] == [word] and (word == "serve" or arguments[1:2] == ["serve"]):
            arguments = arguments[1:]
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
            argument = name + equals + value
        if name in _FLAGS:
            ignored.append(argument)
        elif name in _WITH_VALUE:
            ignored.append(argument)
            if not equals:
                # JSON and several values after one option are its value too, up to the next option.
                while at < len(arguments) and (not arguments[at].startswith("-") or _is_number(arguments[at])):
                    ignored.append(arguments[at])
                    at += 1
                    if name != "--allowed-origins":
                        break
        elif name in _SEVERAL_VALUES and not equals:
            names = 0
            while at < len(arguments) and not arguments[at].startswith("-"):
                kept += [name, arguments[at]]
                at += 1
                names += 1
            if not names:
                kept.append(name)
        else:
            kept.append(argument)
    return kept, ignored


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdigit()
