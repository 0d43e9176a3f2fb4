"""Faster linear layers compute what torch's do, gradients included, and leave nothing behind."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from gpt2.fast import faster, in_chunks, is_on, linear, memory_reused
from gpt2.fast.linear import CALLS_BEFORE_PACKING, fast_linears, product, transposed_product

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


@onednn
def test_products_equal_torchs():
    a, b = torch.randn(9, 4), torch.randn(9, 7)
    torch.testing.assert_close(product(a.t(), b.t()), a.t() @ b, rtol=1e-5, atol=1e-5)
    for x, y in ((a, b), (b, a), (a[:2], b[:2])):
        torch.testing.assert_close(transposed_product(x, y), x.t() @ y, rtol=1e-5, atol=1e-5)


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
