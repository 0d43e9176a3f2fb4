"""The same checks as in the notebook, one test for each exercise: `make test`."""

import pytest

from grading.checks import CHECKS, check

SHAPE = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
SHAPE |= {"vocab_size": 500, "max_position_embeddings": 40, "pad_token_id": 0}


@pytest.mark.parametrize("exercise", CHECKS)
def test(exercise):
    from config import GPT2Config

    report = check(exercise, config=GPT2Config(**SHAPE))
    if report.checks[0].state in ("to do", "waits"):
        pytest.skip(str(report))
    if not report:
        pytest.fail(str(report), pytrace=False)
