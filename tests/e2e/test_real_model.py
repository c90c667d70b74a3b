"""The demo: a real language model behind the gateway gives real answers."""

from __future__ import annotations

from collections.abc import Iterator

import aiohttp
import msgspec
import pytest

from tests.support.installation import PYBRIX, Installation, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up("--model", "smollm2", timeout_s=300)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        it.down()


async def test_another_question_gives_another_answer(installation: Installation) -> None:
    answers = []
    for question in ("What is the capital of France? One sentence.", "Name three colours of the rainbow."):
        finished = await run(
            *PYBRIX, "chat", "--data-dir", str(installation.data_dir), "--max-tokens", "40", question, timeout_s=120
        )
        answers.append(finished.checked().strip())
        assert "smollm2-" in finished.stdout + finished.stderr, "the pod that gave the answer"
    assert all(len(answer) > 10 for answer in answers)
    assert answers[0] != answers[1]


async def test_without_sampling_the_model_knows_paris(installation: Installation) -> None:
    question = {"role": "user", "content": "What is the capital of France? One sentence."}
    body = {"model": "smollm2", "messages": [question], "max_tokens": 40, "temperature": 0}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{installation.gateway_url}/v1/chat/completions", json=body) as response,
    ):
        answer = msgspec.json.decode(await response.read())
    assert "Paris" in answer["choices"][0]["message"]["content"]
