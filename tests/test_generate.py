"""Greedy text: the same tokens as transformers, prompts of any length side by side."""

import pytest
import torch
from hugging_face import batch_of, ours_from, reference_model

from config import GPT2Config
from gpt2.generate import generate, generate_gpt2
from gpt2.model import GPT2Model


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_tokens_equal_transformers_for_unequal_prompts(side, tmp_path):
    reference = reference_model(spread=0.3)
    ours = ours_from(reference, tmp_path)
    left, left_mask = batch_of([9, 3, 6], 9, 101, "left")
    expected = reference.generate(
        left,
        attention_mask=left_mask,
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=57,
        pad_token_id=57,
    )[:, 9:]
    ids, mask = left, left_mask
    if side == "right":
        ids = torch.stack([r.roll(-int((m == 0).sum())) for r, m in zip(ids, mask, strict=True)])
        mask = mask.flip(1)
    assert generate(ours, ids, mask, max_new_tokens=20, eos=57).tolist() == expected.tolist()


def test_a_row_that_met_end_of_text_goes_on_with_it_and_all_such_rows_end_the_loop(tiny_model):
    prompts = torch.tensor([[5, 6, 7], [8, 9, 10]])
    free = generate(tiny_model, prompts, max_new_tokens=4, eos=-1)
    eos = int(free[0, 0])
    both = generate(tiny_model, prompts, max_new_tokens=4, eos=eos)
    assert (both[0] == eos).all() and both[1, 0] == free[1, 0]
    assert generate(tiny_model, prompts[:1], max_new_tokens=4, eos=eos).tolist() == [[eos]]


def test_the_mode_of_the_model_is_put_back(tiny_model):
    tiny_model.train()
    generate(tiny_model, torch.tensor([[5]]), max_new_tokens=1, eos=0)
    assert tiny_model.training


def test_a_prompt_without_room_is_a_clear_error(tiny_model):
    with pytest.raises(ValueError, match="room for 4 of max_new_tokens=5 in 64 positions"):
        generate(tiny_model, torch.ones(1, 60, dtype=torch.long), max_new_tokens=5, eos=0)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    config = GPT2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    return GPT2Model(config).eval()


def test_one_row_gives_a_text_and_several_give_a_list(small, tokenizer):
    batch = tokenizer(["Hello world", "Good"], padding=True, return_tensors="pt")
    texts = generate_gpt2(
        small,
        tokenizer,
        batch["input_ids"],
        max_gen_length=3,
        attention_mask=batch["attention_mask"],
    )
    alone = generate_gpt2(small, tokenizer, batch["input_ids"][:1], max_gen_length=3)
    assert texts[0] == alone and alone.startswith("Hello world")
    assert texts[1].startswith("Good") and "<|endoftext|>" not in texts[1]
    new = tokenizer(alone)["input_ids"]
    assert len(new) <= 2 + 3


def test_several_rows_without_a_mask_are_a_clear_error(small, tokenizer):
    with pytest.raises(ValueError, match="several rows need an attention_mask"):
        generate_gpt2(small, tokenizer, torch.ones(2, 3, dtype=torch.long))
