"""What heads look at, and the accuracy without one of them."""

import torch

from experiments.heads import accuracy_without_heads, attention_weights
from gpt2 import GPT2Config, GPT2Model, XNLIDataset
from tests import SAMPLE
from utils import set_seed


def small_model() -> GPT2Model:
    set_seed(0)
    return GPT2Model(GPT2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)).eval()


def test_weights_give_the_attentions_own_output():
    model, ids = small_model(), torch.tensor([[5, 9, 17, 3, 800]])
    weights = attention_weights(model, ids)
    assert [w.shape for w in weights] == [(4, 5, 5)] * 2
    attention, layer = model.gpt_layers[0].self_attention, model.gpt_layers[0]
    x = layer.attention_layer_norm(model.embed(ids))
    value = attention.transform(x, attention.value)[0]
    by_hand = (weights[0] @ value).permute(1, 0, 2).flatten(1)
    torch.testing.assert_close(attention(x, None)[0], by_hand)
    for w in weights:
        torch.testing.assert_close(w.sum(dim=-1), torch.ones(4, 5))
        assert w.triu(1).abs().max() < 1e-30


def test_a_removed_head_is_put_back(tokenizer):
    model = small_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    rows = XNLIDataset.in_folder(SAMPLE, "dev", tokenizer=tokenizer, subset=6.0, verbose=False)
    table = accuracy_without_heads(model, tokenizer, rows)
    assert table.shape == (2, 4) and table.isin([i / 6 for i in range(7)]).all(axis=None)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
