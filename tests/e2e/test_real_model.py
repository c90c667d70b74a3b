"""The demo: a real language model behind the gateway gives real answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.installation import PYBRIX, Installation, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


@pytest.fixture
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
    # What a sampled answer says is the model's business; that it depends on the question is ours.
    assert answers[0] != answers[1]
