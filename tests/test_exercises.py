"""What is written by hand in exercises/ agrees with the package (its mistakes: tests/grading)."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from config import GPT2Config
from exercises import accounting
from exercises.finetuning import finetuning_step
from extensions.costs import forward_flops
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model
from optim.adamw import AdamW
from tests.hugging_face import batch_of

PUBLISHED = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168}
PUBLISHED |= {"gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}


def labelled_batch():
    ids, mask = batch_of([9, 4, 6], 9, 100)
    labels = torch.full_like(ids, -100)
    for row, length in enumerate([9, 4, 6]):
        labels[row, length - 1] = ids[row, length - 1]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def test_a_step_by_hand_is_one_of_the_packages(tiny_model):
    """The same loss and, to rounding, the same weights as by next_token_loss."""
    batch = labelled_batch()
    other = GPT2Model(tiny_model.config).eval()
    other.load_state_dict(tiny_model.state_dict())
    optimizers = [AdamW(model.parameters(), lr=1e-3, eps=1e-2) for model in (tiny_model, other)]
    for _ in range(3):
        loss = next_token_loss(other, batch)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        by_hand = finetuning_step(tiny_model, batch, optimizers[0])
        assert by_hand == pytest.approx(loss.item(), rel=1e-5)
    for ours, theirs in zip(tiny_model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_four_sizes_have_the_published_numbers_of_parameters():
    counted = {size: accounting.count_parameters(c) for size, c in accounting.SIZES.items()}
    assert counted == PUBLISHED


@pytest.mark.parametrize("width", [None, 40])
def test_a_step_costs_what_torch_counts(width):
    shape = {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": width}
    config = GPT2Config(61, 16, **shape, attn_implementation="eager", pad_token_id=0)
    model = GPT2Model(config)
    assert accounting.count_parameters(config) == sum(p.numel() for p in model.parameters())
    operations, size = accounting.training_costs(config, 1000, 12)
    assert operations == 3 * forward_flops(model, 12, projected=12) and size == 16_000
    with FlopCounterMode(display=False) as counter:
        logits = model.hidden_state_to_token(model(torch.ones(1, 12).long())["last_hidden_state"])
        logits.sum().backward()
    assert counter.get_total_flops() == operations
