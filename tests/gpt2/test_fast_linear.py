"""F.linear by oneDNN equals torch's own, and so do its gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gpt2.fast.linear as fast_linear_module
from gpt2.fast.linear import FastLinear, fast_linear, fast_linears


@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_linear_equals_the_plain_one_and_falls_back_to_it(bias, monkeypatch):
    torch.manual_seed(0)
    x, weight, b = torch.randn(2, 5, 7), torch.randn(3, 7), torch.randn(3) if bias else None
    expected = F.linear(x, weight, b)
    assert torch.allclose(fast_linear(x, weight, b), expected, atol=1e-5)
    assert torch.allclose(fast_linear(x, weight.T.clone().T, b), expected, atol=1e-5)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert torch.equal(fast_linear(x, weight, b), expected)


def test_inside_the_context_every_layer_is_fast_and_outside_none_is(monkeypatch):
    layer, x, calls = nn.Linear(4, 3), torch.randn(2, 4), []
    fast = fast_linear_module.fast_linear
    monkeypatch.setattr(
        fast_linear_module, "fast_linear", lambda *a: (calls.append(a), fast(*a))[1]
    )
    with torch.no_grad():
        expected = layer(x)
        assert calls == []
        with FastLinear():
            inside = layer(x)
        assert len(calls) == 1 and torch.allclose(inside, expected, atol=1e-6)
        layer(x)
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_fast_linear_leaves_other_dtypes_to_torch(dtype):
    x, weight = torch.randn(2, 7, dtype=dtype), torch.randn(3, 7, dtype=dtype)
    assert torch.equal(fast_linear(x, weight), F.linear(x, weight))


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    width=st.integers(1, 6),
    out=st.integers(1, 6),
    bias=st.booleans(),
    frozen=st.booleans(),
    as_keyword=st.booleans(),
)
def test_gradients_equal_torchs(shape, width, out, bias, frozen, as_keyword):
    generator = torch.Generator().manual_seed(0)
    found = []
    for fast in (True, False):
        generator.manual_seed(0)
        x = torch.randn(*shape, width, generator=generator, requires_grad=True)
        weight = torch.randn(out, width, generator=generator, requires_grad=not frozen)
        b = torch.randn(out, generator=generator, requires_grad=True) if bias else None
        with FastLinear() if fast else torch.enable_grad():
            y = F.linear(x, weight, bias=b) if as_keyword else F.linear(x, weight, b)
        (y * torch.arange(1.0, y.numel() + 1).view_as(y)).sum().backward()
        found.append([y, x.grad, weight.grad, None if b is None else b.grad])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_autocast_keeps_its_own_products():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with FastLinear(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_a_model_inside_has_the_gradients_that_it_has_outside(tiny_model):
    ids = torch.arange(40).view(2, 20)
    gradients = []
    for context in (FastLinear(), torch.enable_grad()):
        tiny_model.zero_grad()
        with context:
            loss = tiny_model(ids)["last_hidden_state"].square().mean()
        loss.backward()
        gradients.append(
            {n: p.grad for n, p in tiny_model.named_parameters() if p.grad is not None}
        )
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)


def test_arguments_by_name_and_empty_ones_are_torchs_own_business():
    x, weight = torch.randn(2, 3), torch.randn(4, 3)
    with FastLinear(), torch.no_grad():
        assert torch.equal(F.linear(x, weight=weight), x @ weight.T)
        assert F.linear(x[:0], weight).shape == (0, 4)
    assert torch.equal(fast_linear_module.fast_product(x[:0], x[:0]), torch.zeros(3, 3))


def test_only_a_float32_model_on_a_cpu_pays_for_the_context():
    assert isinstance(fast_linears(nn.Linear(2, 2)), FastLinear)
    for other in (nn.Linear(2, 2).bfloat16(), nn.Linear(2, 2, device="meta")):
        assert not isinstance(fast_linears(other), FastLinear)
