"""4-bit weights: codes and bytes, GPTQ against rounding to the nearest."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from extensions.gptq import Int4Linear, gptq, grid, nearest, round_to_nearest, solve
from gpt2.evaluate import answer
from gpt2.generate import generate
from gpt2.loss import next_token_loss
from gpt2.model import GPT2Model

GROUP = 8


def layer_of(weight: torch.Tensor, bits: int) -> Int4Linear:
    """Return the layer of rounded weights (M, K) without a bias."""
    holder = nn.Sequential(nn.Linear(weight.size(1), weight.size(0), bias=False))
    holder[0].weight.data = weight.clone()
    round_to_nearest(holder, bits, GROUP)
    return holder[0]


def correlated(N: int, K: int, generator) -> torch.Tensor:
    return torch.randn(N, K, generator=generator) @ torch.randn(K, K, generator=generator)


def texts(count: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 100, (25,), generator=generator) for _ in range(count)]


@given(st.integers(0, 999), st.sampled_from([2, 3, 4]), st.integers(1, 5))
def test_every_weight_becomes_the_nearest_of_its_group(seed, bits, M):
    weight = torch.randn(M, 3 * GROUP, generator=torch.Generator().manual_seed(seed))
    groups = weight.view(M, 3, GROUP)
    scale, zero = grid(groups, bits)
    numbers = scale * (torch.arange(2.0**bits) - zero)  # all that the group has
    distances = (groups[..., None] - numbers[..., None, :]).abs()
    rounded = layer_of(weight, bits).weight().view(M, 3, GROUP)
    error = (rounded - groups).abs()
    torch.testing.assert_close(error, distances.amin(dim=-1), rtol=1e-4, atol=1e-6)
    assert (error <= scale * 0.501).all()


@given(st.integers(0, 999), st.sampled_from([2, 3, 4]))
@settings(max_examples=30)
def test_gptq_loses_less_than_rounding_to_the_nearest(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    K = 32
    weight, x = torch.randn(24, K, generator=generator), correlated(200, K, generator)
    by_gptq = Int4Linear(*solve(weight, x.t() @ x, bits, GROUP), None).weight()
    nearest_ones = layer_of(weight, bits).weight()
    losses = [(x @ (weight - w).t()).square().sum() for w in (by_gptq, nearest_ones)]
    assert losses[0] < losses[1]


def test_without_correlations_both_round_the_same():
    weight = torch.randn(6, 2 * GROUP, generator=torch.Generator().manual_seed(0))
    by_gptq = Int4Linear(*solve(weight, torch.eye(2 * GROUP), 4, GROUP), None)
    assert torch.equal(by_gptq.codes, layer_of(weight, 4).codes)


def test_columns_follow_the_formula():
    """GPTQ written plainly, column by column over the whole matrix, with an explicit inverse."""
    generator = torch.Generator().manual_seed(3)
    K = 3 * GROUP
    weight, x = torch.randn(5, K, generator=generator), correlated(99, K, generator)
    H = (x.t() @ x).double()
    codes, scale, zero = solve(weight, H.float(), 3, GROUP)
    H += 0.01 * H.diagonal().mean() * torch.eye(K)
    W, inverse = weight.double(), torch.linalg.inv(H)
    for i in range(K):
        if i % GROUP == 0:
            s, z = grid(W[:, i : i + GROUP], 3)
        code = nearest(W[:, i : i + 1], s, z, 3)
        assert (code[:, 0] == codes[:, i]).float().mean() >= 0.8  # float32 may round a tie
        loss = (W[:, i] - (s * (codes[:, i : i + 1] - z))[:, 0]) / inverse[i, i]
        W = W - loss[:, None] * inverse[i]
        inverse = inverse - torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    assert scale.shape == zero.shape == (5, 3)


@pytest.fixture(params=["nearest", "GPTQ"])
def quantized(request, tiny_model):
    model = copy.deepcopy(tiny_model)
    if request.param == "GPTQ":
        gptq(model, texts(), group=GROUP)
    else:
        round_to_nearest(model, group=GROUP)
    return model


def test_gptq_is_nearer_to_the_model(tiny_model):
    ids = torch.stack(texts(20))[12:]
    exact, errors = tiny_model(ids)["last_hidden_state"], {}
    for bits in (2, 3, 4):
        by_gptq, rounded = (copy.deepcopy(tiny_model) for _ in range(2))
        gptq(by_gptq, texts(), bits, GROUP)
        round_to_nearest(rounded, bits, GROUP)
        errors[bits] = [(m(ids)["last_hidden_state"] - exact).norm() for m in (by_gptq, rounded)]
        assert errors[bits][0] < errors[bits][1]
    assert errors[4] < errors[3] < errors[2]


def test_evaluation_generation_and_loss_run_its_own_forward(quantized):
    plain = copy.deepcopy(quantized)  # the same weights, multiplied out
    for name, module in quantized.named_modules():
        if isinstance(module, Int4Linear):
            M, K = module.weight().shape
            linear = nn.Linear(K, M)
            linear.load_state_dict({"weight": module.weight(), "bias": module.bias})
            plain.set_submodule(name, linear)
    ids = torch.stack(texts(3))
    for run in (
        lambda m: answer(m, list(ids), [1, 2])[1],
        lambda m: generate(m, ids, max_new_tokens=5),
        lambda m: next_token_loss(m, (ids, torch.ones_like(ids))),
    ):
        torch.testing.assert_close(run(quantized), run(plain), rtol=1e-4, atol=1e-4)


def test_it_is_saved_and_loaded_in_half_a_byte_a_weight(quantized, tiny_config):
    file = io.BytesIO()
    torch.save(quantized.state_dict(), file)
    loaded = GPT2Model(tiny_config).eval()
    round_to_nearest(loaded, group=GROUP)
    loaded.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    ids = torch.stack(texts(2))
    assert torch.equal(loaded(ids)["last_token"], quantized(ids)["last_token"])
    layer = quantized.gpt_layers[0].out_dense
    assert layer.codes.nbytes * 2 == layer.weight().numel()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 8}, "bits must be 2, 3 or 4, got 8"),
        ({"group": 64}, "group=64 must be even and divide the 24 inputs of gpt_layers.0"),
        ({"group": 0}, "group=0 must be even"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tiny_model, settings, message):
    with pytest.raises(ValueError, match=message):
        round_to_nearest(tiny_model, **settings)
    with pytest.raises(ValueError, match=message):
        gptq(tiny_model, texts(), **settings)


def test_what_can_not_be_quantized_is_refused(quantized, tiny_model):
    with pytest.raises(ValueError, match="calibration has no texts; GPTQ needs some"):
        gptq(tiny_model, [])
    for again in (round_to_nearest, lambda model: gptq(model, texts())):
        with pytest.raises(ValueError, match="it is quantized already; load it again"):
            again(quantized)
