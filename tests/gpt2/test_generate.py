"""Generation: transformers' own tokens, with a cache or without, and honest distributions."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from config import GPT2Config
from gpt2.cache import KeyValueCache
from gpt2.generate import generate, generate_gpt2
from gpt2.model import GPT2Model
from tests.gpt2.generation import EOS, prompts, theirs
from tests.hugging_face import batch_of, small_model

# ---- Greedy, with and without a cache ----------------------------------------------------------


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("which", ["pair", "trained_pair"])
def test_greedy_tokens_equal_transformers_for_unequal_prompts(which, side, use_cache, request):
    reference, ours = request.getfixturevalue(which)
    expected = theirs(reference, *prompts())
    ids, mask = prompts()
    if side == "right":
        ids = torch.stack([r.roll(-int((m == 0).sum())) for r, m in zip(ids, mask, strict=True)])
        mask = mask.flip(1)
    got = generate(ours, ids, mask, max_new_tokens=20, eos=EOS, use_cache=use_cache)
    assert got.tolist() == expected


@pytest.mark.parametrize("length", [1, 2, 7])
def test_blocks_that_keep_no_cache_are_noticed_however_short_the_prompt(length):
    model, (ids, mask) = small_model(initializer_range=0.2).eval(), batch_of([length], length, 23)
    for layer in model.gpt_layers:
        layer.forward = lambda states, mask, cache=None, forward=layer.forward: forward(
            states, mask
        )
    with pytest.warns(UserWarning, match="another result with a cache than without"):
        got = generate(model, ids, mask, max_new_tokens=8)
    assert torch.equal(got, generate(model, ids, mask, max_new_tokens=8, use_cache=False))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@given(data=st.data())
def test_reading_in_pieces_with_a_cache_equals_reading_at_once(attention, data):
    model = small_model(initializer_range=0.2, attn_implementation=attention).eval()
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    width = max(lengths) + data.draw(st.integers(0, 4))
    ids, mask = batch_of(lengths, width, 23, data.draw(st.sampled_from(["left", "right"])))
    cuts = sorted({0, width, *data.draw(st.lists(st.integers(0, width), max_size=5))})
    cache = KeyValueCache(data.draw(st.sampled_from([0, width // 2, width])))
    with torch.no_grad():
        whole = model(ids, mask)["last_hidden_state"]
        pieces = torch.cat(
            [
                model(ids[:, a:b], mask[:, :b], cache)["last_hidden_state"]
                for a, b in pairwise(cuts)
            ],
            dim=1,
        )
    assert torch.allclose(pieces[mask.bool()], whole[mask.bool()], atol=1e-5)


def test_a_selected_cache_continues_the_chosen_rows(tiny_model):
    ids = torch.randint(0, 100, (3, 12))
    rows = torch.tensor([2, 0, 2])
    cache = KeyValueCache()
    with torch.no_grad():
        tiny_model(ids[:, :5], None, cache)
        chosen = cache.select(rows)
        again = tiny_model(ids[rows, 5:], None, chosen)["last_token"]
        assert torch.allclose(again, tiny_model(ids[rows])["last_token"], atol=1e-5)
        first = tiny_model(ids[:, 5:], None, cache)["last_token"]  # it has not changed
        assert torch.allclose(first, tiny_model(ids)["last_token"], atol=1e-5)


def test_a_mask_that_leaves_out_the_cache_is_a_clear_error(tiny_model):
    cache = KeyValueCache()
    ids = torch.ones(1, 3, dtype=torch.long)
    tiny_model(ids, None, cache)
    with pytest.raises(ValueError, match=r"attention_mask is \[1, 3\], but must be \[1, 6\]"):
        tiny_model(ids, torch.ones(1, 3), cache)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right", "none"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_cache_changes_no_token_in_any_dtype(dtype, attention, side, batch):
    """Greedy text with a cache, without, and of each row alone; half precision may tie."""
    model = small_model(dtype, initializer_range=0.5, attn_implementation=attention).eval()
    lengths = [6] * batch if side == "none" else [6, 2, 4][:batch]
    ids, mask = batch_of(lengths, 6, 50, "right" if side == "none" else side)
    texts = [
        generate(model, ids, mask, max_new_tokens=8, eos=-1, use_cache=use) for use in (True, False)
    ]
    texts.append(
        torch.cat([
            generate(model, row[m.bool()][None], max_new_tokens=8, eos=-1)
            for row, m in zip(ids, mask, strict=True)
        ])
    )  # fmt: skip
    for text in texts:
        assert text.shape == (batch, 8)
        assert_greedy(model, ids, mask, text, slack=1e-4 if dtype == torch.float32 else 0.3)


def assert_greedy(model, ids, mask, text, slack):
    """Every token is the most probable one, or within `slack` nats of it."""
    for row, real, new in zip(ids, mask, text, strict=True):
        whole = torch.cat([row[real.bool()], new])
        logits = model.hidden_state_to_token(model(whole[None])["last_hidden_state"])[0].float()
        scores = logits[-len(new) - 1 : -1].log_softmax(dim=-1)
        chosen = scores.gather(1, new[:, None])[:, 0]
        assert (scores.amax(dim=-1) - chosen).max() < slack


def test_a_bfloat16_model_generates_for_a_padded_batch_with_a_cache():
    config = GPT2Config(
        vocab_size=61, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=64,
    )  # fmt: skip
    model = GPT2Model(config).bfloat16().eval()
    ids, mask = torch.tensor([[2, 5, 6], [8, 9, 10]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert generate(model, ids, mask, eos=-1, max_new_tokens=3).shape == (2, 3)


def test_a_row_that_met_end_of_text_is_filled_up_and_all_such_rows_end_the_loop(tiny_model):
    rows = torch.tensor([[5, 6, 7], [8, 9, 10]])
    free = generate(tiny_model, rows, max_new_tokens=4, eos=-1)
    eos = int(free[0, 0])
    both = generate(tiny_model, rows, max_new_tokens=4, eos=eos)
    assert (both[0] == eos).all() and both[1, 0] == free[1, 0]
    assert generate(tiny_model, rows[:1], max_new_tokens=4, eos=eos).tolist() == [[eos]]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}])
def test_the_mode_of_the_model_is_restored(settings, tiny_model):
    tiny_model.train()
    generate(tiny_model, torch.tensor([[5]]), max_new_tokens=2, eos=0, **settings)
    assert tiny_model.training


# ---- The end of the positions ------------------------------------------------------------------


def test_a_prompt_without_room_is_a_clear_error(tiny_model):
    with pytest.raises(ValueError, match="61 tokens leaves room for 4 of max_new_tokens=5 in 64"):
        generate(tiny_model, torch.ones(1, 61, dtype=torch.long), max_new_tokens=5, eos=-1)
    assert generate(
        tiny_model, torch.ones(1, 61, dtype=torch.long), max_new_tokens=4, eos=-1
    ).shape == (1, 4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"temperature": 0.0, "do_sample": True}, "temperature must be above 0"),
        ({"temperature": 0.7}, "temperature has no effect without do_sample=True"),
        ({"do_sample": True, "top_k": -1}, "top_k must be at least 1"),
        ({"top_k": 3}, "top_k has no effect without do_sample=True"),
        ({"do_sample": True, "top_p": 1.5}, "top_p must be in"),
        ({"do_sample": True, "min_p": -0.1}, "min_p must be in"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"num_beams": 0}, "num_beams must be at least 1"),
        ({"num_beams": 2, "do_sample": True}, "exclude each other"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_clear_errors(bad, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        generate(tiny_model, torch.tensor([[5]]), **{"max_new_tokens": 2, "eos": 0, **bad})


@pytest.mark.parametrize("do_sample", [True, False])
def test_transformers_values_for_off_mean_off(do_sample, pair):
    off = {"temperature": None, "top_k": 0, "top_p": None, "min_p": None, "num_beams": None}
    off |= {"repetition_penalty": None, "length_penalty": None}
    texts = [
        generate(pair[1], *prompts(), max_new_tokens=9, eos=EOS, do_sample=do_sample,
                 generator=torch.Generator().manual_seed(1), **settings)
        for settings in ({}, off, {"top_k": None, "top_p": 1.0, "temperature": 1.0})
    ]  # fmt: skip
    assert texts[0].tolist() == texts[1].tolist() == texts[2].tolist()


def test_by_default_the_text_ends_with_the_models_end_of_text(tiny_model):
    ids = torch.tensor([[5, 6, 7]])
    free = generate(tiny_model, ids, max_new_tokens=4, eos=-1)
    for name in ("pad_token_id", "eos_token_id"):
        setattr(tiny_model.config, name, int(free[0, 0]))
        assert generate(tiny_model, ids, max_new_tokens=4).tolist() == free[:, :1].tolist()
        tiny_model.config.pad_token_id = 100


def test_a_row_without_a_token_is_a_clear_error(tiny_model):
    with pytest.raises(ValueError, match="every row needs a token"):
        generate(tiny_model, torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0] * 3]))


# ---- Text --------------------------------------------------------------------------------------


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
    assert len(tokenizer(alone)["input_ids"]) <= 2 + 3


def test_no_new_token_is_an_error_that_names_the_argument(small, tokenizer):
    with pytest.raises(ValueError, match="max_gen_length must be at least 1, got 0"):
        generate_gpt2(small, tokenizer, torch.tensor([[5]]), max_gen_length=0)


def test_decoding_settings_reach_the_model(small, tokenizer):
    ids = tokenizer("Hello world", return_tensors="pt")["input_ids"]
    texts = {
        generate_gpt2(
            small,
            tokenizer,
            ids,
            8,
            do_sample=True,
            temperature=2.0,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in range(5)
    }
    assert len(texts) == 5


def test_text_instead_of_ids_is_a_clear_error_and_one_row_may_be_flat(small, tokenizer):
    batch = tokenizer("Hello world", return_tensors="pt")
    for wrong in ("Hello world", batch):
        with pytest.raises(TypeError, match="tokenize first: tokenizer"):
            generate_gpt2(small, tokenizer, wrong)
    flat = generate_gpt2(
        small, tokenizer, batch["input_ids"][0], 3, attention_mask=batch["attention_mask"][0]
    )
    assert flat == generate_gpt2(small, tokenizer, batch["input_ids"], 3)
    with pytest.raises(ValueError, match=r"input_ids must be \[B, T\]"):
        generate(small, batch["input_ids"][0])


def test_several_rows_need_a_mask_only_if_one_is_padded(small, tokenizer):
    rows = torch.tensor([[40, 41, 42], [43, 44, 45]])
    assert len(generate_gpt2(small, tokenizer, rows, 2)) == 2
    rows[1, 2] = 50256
    with pytest.raises(ValueError, match="rows with padding need an attention_mask"):
        generate_gpt2(small, tokenizer, rows, 2)
    without = copy.deepcopy(tokenizer)
    without.pad_token = None
    assert len(generate_gpt2(small, without, rows, 2)) == 2
