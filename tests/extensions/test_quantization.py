"""int8 layers: the exact product, bounds of the error, the model around them."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from extensions.quantization import (
    Int8Linear,
    PackedProduct,
    WeightOnlyInt8Linear,
    integer_product,
    quantize,
    to_int8,
)
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model

# N, K, M. torch._int_mm with oneDNN gives wrong numbers for K = 1 (torch 2.13), which no layer of a
# transformer has; packed products are right there, too.
SIZES = st.tuples(st.integers(1, 40), st.integers(2, 70), st.integers(1, 40))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[False, True], ids=["int8", "weight only"])
def quantized(request, tiny_model):
    model = copy.deepcopy(tiny_model)
    quantize(model, weight_only=request.param)
    return model


@given(SIZES, st.integers(0, 99))
def test_the_product_is_that_of_whole_numbers(sizes, seed):
    N, K, M = sizes
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-127, 128, (n, K), generator=generator).to(torch.int8) for n in (N, M))
    exact = a.long() @ b.long().t()
    assert torch.equal(integer_product(a, b).long(), exact)
    if PackedProduct.suits(a):
        assert torch.equal(PackedProduct()(a, b, torch.ones(M)).double(), exact.double())


@given(st.integers(1, 9), st.integers(1, 50), st.floats(1e-6, 1e6), st.integers(0, 99))
def test_rounding_errs_by_at_most_half_a_step(N, K, size, seed):
    x = size * random(N, K, seed=seed)
    numbers, scale = to_int8(x)
    assert numbers.abs().max() == 127
    assert ((x - numbers * scale).abs() <= scale * 0.501).all()


def test_zeros_stay_zeros():
    numbers, scale = to_int8(torch.zeros(2, 5))
    assert not numbers.any() and scale.isfinite().all()


@given(SIZES, st.integers(0, 99))
def test_a_layer_errs_by_no_more_than_its_rounding(sizes, seed):
    N, K, M = sizes
    linear, x = nn.Linear(K, M), random(N, K, seed=seed)
    weight = linear.weight.detach()
    step_x, step_w = to_int8(x)[1], to_int8(weight)[1].t()
    with torch.no_grad():
        exact, only = linear(x), WeightOnlyInt8Linear(linear)(x)
        both = Int8Linear(linear)(x)
    of_weight = x.abs().sum(dim=1, keepdim=True) * step_w / 2
    of_input = (weight.abs().sum(dim=1) + K * step_w / 2) * step_x / 2
    assert ((only - exact).abs() <= 1.01 * of_weight + 1e-5).all()
    assert ((both - exact).abs() <= 1.01 * (of_weight + of_input) + 1e-5).all()


def test_packed_and_plain_products_agree(monkeypatch):
    layer, x = Int8Linear(nn.Linear(48, 32)), random(7, 3, 48)
    packed = layer(x)
    monkeypatch.setattr(PackedProduct, "suits", staticmethod(lambda x: False))
    torch.testing.assert_close(layer(x), packed, rtol=1e-6, atol=1e-6)


def test_changed_weights_are_packed_again():
    one, other = Int8Linear(nn.Linear(8, 4)), Int8Linear(nn.Linear(8, 4))
    x = random(3, 8)
    assert not torch.equal(one(x), other(x))
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(x), other(x))
    assert torch.equal(copy.deepcopy(one)(x), one(x))


def test_fused_rounding_gives_the_same_numbers():
    x = random(9, 24)
    layer = nn.Linear(24, 5)
    try:
        fused = Int8Linear(layer, fused=True)(x)
    except torch._dynamo.exc.BackendCompilerFailed:
        pytest.skip("torch.compile needs a C++ compiler")
    assert torch.equal(fused, Int8Linear(layer)(x))


def test_the_quantized_model_is_near_the_model(quantized, tiny_model):
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        exact, near = (m(ids)["last_hidden_state"] for m in (tiny_model, quantized))
    assert 0 < (near - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evaluation_generation_and_loss_run_its_own_forward(quantized, dtype):
    model = quantized.to(dtype)
    # A sum in another order moves some activations by a step of 1/127; bfloat16 adds its own steps.
    apart = 0.01 if dtype == torch.float32 else 0.3
    prompts = [torch.arange(3, 3 + n) for n in (9, 12, 12, 15)]
    tokens, log_probs = answer(model, prompts, [1, 2])
    for prompt, token, log_prob in zip(prompts, tokens, log_probs, strict=True):
        logits = model.hidden_state_to_token(model(prompt[None])["last_token"]).float()[0]
        assert logits[token] >= logits.max() - apart
        torch.testing.assert_close(log_prob, logits.log_softmax(-1)[[1, 2]], rtol=0, atol=apart)
    ids = torch.arange(10).view(1, 10)
    first = generate(model, ids, max_new_tokens=4, eos=-1)[0, 0]
    logits = model.hidden_state_to_token(model(ids)["last_token"])[0]
    assert logits[first] >= logits.max() - apart
    loss = next_token_loss(model, (ids, torch.ones_like(ids)))
    logits = model.hidden_state_to_token(model(ids)["last_hidden_state"])[0, :-1].float()
    plain = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    torch.testing.assert_close(loss, plain, rtol=0, atol=apart)


@pytest.mark.filterwarnings("error")
def test_it_is_read_in_parts_like_any_model(quantized):
    answer(quantized, [torch.arange(20), torch.arange(21)], [1])


def test_it_is_saved_and_loaded(quantized, tiny_config, tiny_model):
    file = io.BytesIO()
    torch.save(quantized.state_dict(), file)
    loaded = GPT2Model(tiny_config).eval()
    quantize(loaded, weight_only=type(quantized.gpt_layers[0].out_dense) is WeightOnlyInt8Linear)
    loaded.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    ids = torch.arange(10).view(1, 10)
    assert torch.equal(loaded(ids)["last_token"], quantized(ids)["last_token"])
    int8 = sum(t.nbytes for n, t in quantized.state_dict().items() if n.endswith("dense.weight"))
    full = sum(t.nbytes for n, t in tiny_model.state_dict().items() if n.endswith("dense.weight"))
    assert int8 * 4 == full
    with pytest.raises(ValueError, match="cannot be saved"):
        quantized.save_pretrained("unused")


def test_a_gradient_reaches_the_input_of_weight_only_layers():
    linear, x = nn.Linear(6, 4), random(2, 6).requires_grad_()
    layer = WeightOnlyInt8Linear(linear)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0], (layer.weight * layer.scale[:, None]).sum(dim=0))
    with pytest.raises(RuntimeError, match="int8 activations have no gradient; train before"):
        Int8Linear(linear)(x)


def test_quantizing_twice_is_refused(quantized):
    with pytest.raises(ValueError, match=r"no nn\.Linear: it is quantized already; load it again"):
        quantize(quantized)
