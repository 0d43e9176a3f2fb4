"""Head summaries: planted patterns get the numbers that they should have."""

import math

import pytest
import torch

from extensions.interpret.heads import attention_between, head_summaries, summarize
from extensions.interpret.tokens import Tokens
from gpt2 import GPT2Config, GPT2Model
from gpt2.tokenizer import encode_texts
from gpt2.xnli import XNLI

PAIRS = [("Anna is here. Leo sings.", "Anna is here."), ("A cat sat.", "A dog."), ("No.", "Yes.")]


@pytest.fixture(scope="module")
def prompts(tokenizer):
    texts = [XNLI.prompt.format(premise=premise, hypo=hypo) for premise, hypo in PAIRS]
    return [torch.tensor(ids) for ids in encode_texts(tokenizer, texts)]


def patterns(tokens):
    """Heads that look at the first, the previous, the own, all, and the same token."""
    T = len(tokens.ids)
    same = torch.tensor([[a == b for b in tokens.ids] for a in tokens.ids]).tril(-1).float()
    same = torch.where(same.any(dim=1, keepdim=True), same, torch.eye(T))
    first = torch.zeros(T, T).index_fill(1, torch.tensor([0]), 1)
    previous = torch.eye(T).roll(-1, dims=1).tril(-1) + torch.eye(T) * (torch.arange(T) == 0)
    uniform = torch.ones(T, T).tril()
    stacked = torch.stack([first, previous, torch.eye(T), uniform, same])
    return stacked / stacked.sum(dim=-1, keepdim=True)


def test_planted_patterns_are_measured(tokenizer, prompts):
    tokens = Tokens(tokenizer, prompts[0])
    found = summarize(patterns(tokens), tokens, {})
    assert found["first token"][0] == found["previous token"][1] == found["itself"][2] == 1
    torch.testing.assert_close(found["entropy"][:4], torch.tensor([0.0, 0, 0, 1]))
    torch.testing.assert_close(found["same token"][[2, 4]], torch.tensor([0.0, 1.0]))
    assert found["hypothesis→premise"][0] == 0  # the first token is of the header
    assert 0.3 < found["hypothesis→premise"][3] < 0.7
    torch.testing.assert_close(found["hypothesis→same in premise"][4], torch.tensor(1.0))


def test_links_are_attention_from_queries_to_keys():
    weights = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]]])
    assert math.isclose(attention_between(weights, [1, 2], [0, 1]).item(), (1 + 0.5) / 2)
    assert attention_between(weights, [], [0]).isnan().all()
    assert attention_between(weights, [1], []).isnan().all()


def test_a_data_set_has_the_mean_of_its_texts(tokenizer, prompts):
    torch.manual_seed(0)
    config = GPT2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=3)
    model = GPT2Model(config).eval()
    links = [{"last→first": ([len(p) - 1], [0])} for p in prompts]
    together = head_summaries(model, tokenizer, prompts, links)
    alone = [
        head_summaries(model, tokenizer, [p], [link])
        for p, link in zip(prompts, links, strict=True)
    ]
    assert together.shape == (6, 8) and together.index.names == ["layer", "head"]
    for column in together:
        columns = torch.tensor([table[column].tolist() for table in alone])
        expected = columns.nanmean(dim=0)
        torch.testing.assert_close(
            torch.tensor(together[column].tolist()), expected, atol=1e-5, rtol=0, equal_nan=True
        )
    shares = together.drop(columns="entropy").to_numpy()
    assert (shares[~torch.tensor(shares).isnan().numpy()] >= 0).all()
    with pytest.raises(ValueError, match="1 links for 3 prompts; give one for each"):
        head_summaries(model, tokenizer, prompts, links[:1])


def test_a_text_of_one_token_has_no_queries(tokenizer):
    model = GPT2Model(GPT2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=3)).eval()
    assert head_summaries(model, tokenizer, [torch.tensor([5])]).isna().all(axis=None)
