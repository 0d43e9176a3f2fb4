"""GPT-2s of transformers, the folder that one saves, and ours with the same weights."""

import pytest
import torch
import transformers

from gpt2.loss import next_token_loss
from optim.adamw import AdamW
from tests.gpt2.generation import EOS
from tests.hugging_face import ours_from, reference_model, small_model


@pytest.fixture(scope="module")
def reference():
    return reference_model()


@pytest.fixture
def folder(reference, tmp_path):
    reference.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The reference and our copy: random weights, a small vocabulary, so that EOS turns up."""
    reference = reference_model(vocab_size=23, spread=0.35)
    return reference, ours_from(reference, tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def trained_pair(tmp_path_factory):
    """Likewise, but trained to count up by one, three or five, and to stop after a while."""
    model = small_model(vocab_size=23, hidden_size=32, max_position_embeddings=64)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        start, step = (
            torch.randint(8, 23, (16, 1)),
            torch.tensor([1, 3, 5])[torch.randint(3, (16, 1))],
        )
        ids = 8 + (start + step * torch.arange(20)) % 15
        ids[:, 19] = EOS
        optimizer.zero_grad()
        next_token_loss(model, (ids, torch.ones_like(ids))).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("trained")
    model.eval().save_pretrained(folder)
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval(), model
