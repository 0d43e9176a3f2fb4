"""Faster linear layers compute what torch's do, gradients included, and leave nothing behind."""

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from gpt2.fast import faster, in_chunks, is_on, linear, memory_reused
from gpt2.fast.linear import CALLS_BEFORE_PACKING, fast_linears
from gpt2.loss import next_token_loss

onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN"
)


@pytest.fixture(params=["Intel", "AMD"], autouse=True)
def processor(request, monkeypatch):
    """Let the kernels be chosen as on each maker's processors."""
    monkeypatch.setattr(linear, "processor", lambda: request.param)


@onednn
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    width=st.integers(1, 6),
    out=st.integers(1, 6),
    bias=st.booleans(),
    frozen=st.booleans(),
)
def test_output_and_gradients_equal_torchs(shape, width, out, bias, frozen):
    torch.manual_seed(0)
    layer = nn.Linear(width, out, bias=bias)
    layer.weight.requires_grad_(not frozen)
    found = []
    for context in (fast_linears(layer), torch.enable_grad()):
        layer.zero_grad()
        x = torch.linspace(-2, 2, width * torch.Size(shape).numel()).view(*shape, width)
        x.requires_grad_()
        with context:
            y = layer(x)
        (y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum().backward()
        found.append([y, x.grad, *(p.grad for p in layer.parameters())])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def padded(model, side: str, lengths=(9, 1, 5, 12)) -> dict:
    """Random ids (4, 12) of the model's vocabulary, padded on a side, with two labels a row."""
    torch.manual_seed(1)
    ids, columns = torch.randint(1, model.config.vocab_size, (4, 12)), torch.arange(12)
    real = columns < torch.tensor(lengths)[:, None]
    mask = (real if side == "right" else real.flip(1)).long()
    after_a_token = F.pad(mask[:, :-1], (1, 0)) * mask == 1
    labels = torch.where(after_a_token & (torch.rand(4, 12) < 0.5), ids, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def rows_multiplied(monkeypatch) -> list[int]:
    """The rows of each product of a linear layer from here on."""
    rows, real = [], linear._FastForward._product

    def note(self, layer, x):
        rows.append(x.shape[:-1].numel())
        return real(self, layer, x)

    monkeypatch.setattr(linear._FastForward, "_product", note)
    return rows


@onednn
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pads_are_not_multiplied_and_nothing_else_changes(tiny_model, side, precision, monkeypatch):
    monkeypatch.setattr(linear, "WORTH", 0)
    model, batch = tiny_model.train(), padded(tiny_model, side)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    model.gpt_layers[0].out_dense.weight.requires_grad_(False)
    rows, found = rows_multiplied(monkeypatch), []
    for context in (faster(model), nullcontext()):
        torch.manual_seed(0)
        model.zero_grad()
        with context, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = next_token_loss(model, batch)
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters())])
    assert len(rows) == 6 * len(model.gpt_layers) and set(rows) == {9 + 1 + 5 + 12}
    tolerance = 1e-5 if precision == "float32" else 2e-2
    for ours, plain in zip(*found, strict=True):
        assert (ours is None) == (plain is None)
        if ours is not None:
            torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)


@onednn
def test_pads_are_left_out_only_where_a_mask_says_where_they_are(tiny_model, monkeypatch):
    monkeypatch.setattr(linear, "WORTH", 0)
    rows, (ids, mask, _) = rows_multiplied(monkeypatch), padded(tiny_model, "right").values()
    with faster(tiny_model):
        tiny_model(ids)
        tiny_model(ids, torch.ones_like(mask))
        with torch.no_grad():
            tiny_model(ids, mask)
        with pytest.raises(ValueError, match="outside the vocabulary"):
            tiny_model(ids.clone().fill_(10**6), mask)
        tiny_model.gpt_layers[0](torch.ones(4, 12, tiny_model.config.hidden_size), None)
        assert set(rows) == {48}
        rows.clear()
        tiny_model(attention_mask=mask, input_ids=ids)
        assert set(rows) == {27}
    monkeypatch.setattr(linear, "WORTH", 21 * tiny_model.config.hidden_size**2)
    with faster(tiny_model):
        rows.clear()
        tiny_model(ids, mask)
        assert set(rows) == {48, 27}  # the wider matrices alone


@onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 8, 40, 300])
def test_packed_weights_give_the_same_and_follow_a_changed_weight(dtype, rows):
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 24).to(dtype), torch.randn(rows, 16).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.no_grad(), fast_linears(layer):
        for _ in range(2):
            for _ in range(CALLS_BEFORE_PACKING + 3):
                expected = F.linear(x, layer.weight, layer.bias)
                torch.testing.assert_close(layer(x), expected, rtol=tolerance, atol=tolerance)
            layer.weight.mul_(-3.0)  # in the middle of packed calls
        layer.weight = nn.Parameter(torch.randn_like(layer.weight))
        expected = F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(layer(x), expected, rtol=tolerance, atol=tolerance)


class Subclass(nn.Linear):
    pass


def swapped(model) -> set[str]:
    with faster(model):
        return {name for name, m in model.named_modules() if "forward" in vars(m)}


@onednn
def test_only_plain_layers_are_swapped_and_only_inside():
    model = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("plain", "hooked", "pruned", "own")})
    model["subclass"], model["float64"] = Subclass(3, 3), nn.Linear(3, 3).double()
    model["hooked"].register_forward_hook(lambda *_: torch.zeros(1))
    prune.l1_unstructured(model["pruned"], "weight", amount=0.5)
    model["own"].forward = lambda x: x
    assert swapped(model) == {"plain", "hooked", "own"}  # "own" has had its own before
    with faster(model):
        assert model["hooked"](torch.ones(2, 3)).shape == (1,)
        assert torch.equal(model["own"](torch.ones(2, 3)), torch.ones(2, 3))
    assert {n for n, m in model.named_modules() if "forward" in vars(m)} == {"own"}
    with pytest.raises(KeyError), faster(model):
        raise KeyError
    assert "forward" not in vars(model["plain"])


@onednn
def test_a_copy_made_inside_computes_with_its_own_weights():
    layer, x = nn.Linear(4, 4), torch.randn(5, 4)
    with torch.no_grad(), faster(layer):
        copied = copy.deepcopy(layer)
        layer.weight.zero_()
        layer.bias.zero_()
        assert layer(x).abs().max() == 0 < copied(x).abs().max()


def test_other_inputs_are_torchs_own_business():
    layer = nn.Linear(3, 4)
    with faster(layer), torch.no_grad():
        assert layer(torch.ones(0, 3)).shape == (0, 4)
        assert layer(torch.ones(3)).shape == (4,)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.ones(2, 3)).dtype == torch.bfloat16


def test_gpt2_fast_0_turns_everything_off(monkeypatch):
    monkeypatch.setenv("GPT2_FAST", "0")
    assert not is_on() and swapped(nn.Linear(2, 2)) == set()
    calls = []
    in_chunks(lambda x: (calls.append(len(x)), x)[1], torch.ones(10), size=3)
    assert calls == [10]


def test_chunks_are_joined_in_order_with_gradients():
    x = torch.arange(10.0, requires_grad=True)
    calls = []
    y = in_chunks(lambda x: (calls.append(len(x)), x**2)[1], x, size=4)
    assert y.tolist() == [n**2 for n in range(10)] and calls == [4, 4, 2]
    y.sum().backward()
    assert x.grad.tolist() == [2.0 * n for n in range(10)] and sorted(calls) == [2, 2, 4, 4, 4, 4]


def test_memory_contexts_nest_and_end():
    for _ in range(2):
        with memory_reused(torch.device("cpu")), memory_reused(torch.device("cpu")):
            assert torch.ones(1_000_000).sum() == 1_000_000
    with memory_reused(torch.device("meta")):
        pass
