"""Command lines written for vLLM."""

from __future__ import annotations

import pytest

from pybrix.cli.vllm_arguments import translate_arguments


@pytest.mark.parametrize(
    ("line", "kept", "ignored"),
    [
        pytest.param("--model m --port 1", "--model m --port 1", "", id="nothing to do"),
        pytest.param("serve org/m --port 1", "org/m --port 1", "", id="serve"),
        pytest.param("vllm serve org/m", "org/m", "", id="vllm serve"),
        pytest.param("--max_model_len=8 --max_num_seqs 4", "--max-model-len=8 --max-num-seqs 4", "", id="underscores"),
        pytest.param(
            "--served-model-name a b --port 1",
            "--served-model-name a --served-model-name b --port 1",
            "",
            id="several names after one option",
        ),
        pytest.param(
            "--dtype half --trust-remote-code org/m -tp 2",
            "org/m",
            "--dtype half --trust-remote-code -tp 2",
            id="options that mean nothing here",
        ),
        pytest.param("--dtype=half m", "m", "--dtype=half", id="a value after an equals sign"),
        pytest.param(
            "--allowed-origins a b --port 1", "--port 1", "--allowed-origins a b", id="several values of an ignored one"
        ),
        pytest.param(
            "--enable-lora --max-loras 4 --lora-modules a=/x b=/y --port 1",
            "--enable-lora --max-loras 4 --lora-modules a=/x --lora-modules b=/y --port 1",
            "",
            id="adapters",
        ),
        pytest.param("--max-num-sqs 4", "--max-num-sqs 4", "", id="a misspelt one stays, to be refused"),
    ],
)
def test_a_vllm_command_line_becomes_ours(line: str, kept: str, ignored: str) -> None:
    assert translate_arguments(line.split()) == (kept.split(), ignored.split())
