"""AdamW against an independent float64 NumPy implementation, and against torch's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import optim.fused
from grading.checks.optimizer import regression_weights
from optim.adamw import AdamW
from tests import ROOT
from tests.optim.adamw_reference import NumpyAdamW, sanity_check_weights

SETTINGS = [
    {"betas": betas, "eps": eps, "weight_decay": decay, "correct_bias": correct}
    for betas in ((0.9, 0.999), (0.0, 0.5), (0.99, 0.9))
    for eps in (1e-8, 1e-3)
    for decay in (0.0, 0.1)
    for correct in (True, False)
]


def run_both(optimizer_class, dtype, steps=1000, lr=1e-2, **hyper):
    """The same gradients (noisy, of changing scale) through ours and NumPy's."""
    rng = np.random.default_rng(1)
    theta = nn.Parameter(torch.tensor(rng.normal(size=(4, 5)), dtype=dtype))
    reference = NumpyAdamW(theta.detach().numpy(), lr=lr, **hyper)
    optimizer = optimizer_class([theta], lr=lr, **hyper)
    noise = torch.tensor(rng.normal(size=(steps, 4, 5)), dtype=dtype)
    for step in range(steps):
        theta.grad = 10.0 ** (step % 7 - 3) * noise[step] + theta.detach()
        reference.step(theta.grad.numpy())
        optimizer.step()
    return theta.detach().numpy(), reference.theta


@pytest.fixture(params=["kernel", "formulas"])
def way(request, monkeypatch):
    """AdamW by torch's fused kernel, and by its own formulas."""
    if request.param == "formulas":
        monkeypatch.setenv("GPT2_FAST", "0")


@pytest.mark.parametrize(
    ("fast", "hyper"), [*(("0", hyper) for hyper in SETTINGS), *(("1", h) for h in SETTINGS[::5])]
)
def test_float64_equals_numpy_to_1e_10_over_1000_steps(fast, hyper, monkeypatch):
    """By its own formulas in all settings, by torch's fused kernel in some."""
    monkeypatch.setenv("GPT2_FAST", fast)
    ours, expected = run_both(AdamW, torch.float64, **hyper)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10)


@settings(max_examples=200)
@given(
    lr=st.floats(0, 3),
    decay=st.floats(0, 3),
    betas=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
    eps=st.floats(1e-12, 1e-2),
    correct=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_the_kernel_equals_the_formulas(lr, decay, betas, eps, correct, dtype):
    hyper = {"lr": lr, "weight_decay": decay, "betas": betas, "eps": eps, "correct_bias": correct}
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(3, 40, generator=generator, dtype=torch.float64).to(dtype)
    found = {}
    for fast in ("1", "0"):
        theta = nn.Parameter(torch.ones(40, dtype=dtype))
        optimizer = AdamW([theta], **hyper)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GPT2_FAST", fast)
            for gradient in gradients:
                theta.grad = gradient.clone()
                optimizer.step()
        found[fast] = theta.detach()
    kernel, formulas = found.values()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(kernel, formulas, rtol=tolerance, atol=tolerance * (1 + lr))


def test_the_handouts_sanity_check_passes_against_optimizer_test_npy():
    np.testing.assert_allclose(
        regression_weights(AdamW), np.load(ROOT / "optimizer_test.npy"), atol=1e-6, rtol=1e-4
    )


def test_optimizer_test_npy_is_what_the_numpy_reference_gives():
    torch.manual_seed(0)
    initial = nn.Linear(3, 2, bias=False).weight.detach().numpy()
    np.testing.assert_array_equal(
        np.load(ROOT / "optimizer_test.npy"), sanity_check_weights(initial).astype(np.float32)
    )


class Wrong(torch.optim.Optimizer):
    """The handout's formulas in one line each, with room for one mistake."""

    mistake = None

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True
    ):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        (b1, b2), lr, eps, decay = (group[k] for k in ("betas", "lr", "eps", "weight_decay"))
        for p in group["params"]:
            state = self.state[p]
            t = state["t"] = state.get("t", 0) + 1
            g = p.grad + (decay * p if self.mistake == "coupled" else 0)
            m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
            v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g * g
            m, v = m / (1 - b1**t), v / (1 - b2**t)
            if self.mistake == "twice":
                m, v = m / (1 - b1**t), v / (1 - b2**t)
            root = (v + eps).sqrt() if self.mistake == "inside" else v.sqrt() + eps
            p -= lr * m / root
            if self.mistake != "coupled":
                p -= lr * decay * p


@pytest.mark.parametrize("mistake", [None, "twice", "inside", "coupled"])
def test_bias_corrected_twice_epsilon_inside_the_root_and_coupled_decay_are_caught(mistake):
    class Candidate(Wrong):
        pass

    Candidate.mistake = mistake
    hyper = {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01, "correct_bias": True}
    ours, expected = run_both(Candidate, torch.float64, **hyper)
    assert np.allclose(ours, expected, rtol=0, atol=1e-10) == (mistake is None)
    against_file = np.allclose(
        regression_weights(Candidate), np.load(ROOT / "optimizer_test.npy"), atol=1e-6, rtol=1e-4
    )
    # The handout's own check can't see the epsilon: its gradients are a million times larger.
    assert against_file == (mistake in (None, "inside"))


def test_it_differs_from_torchs_adamw_only_by_the_order_of_decay():
    """The order changes a step by lr²·λ·|update|, and |update| ≤ 1 here: 1,000 steps of that
    (and as much again for the slightly different gradients) bound the distance."""
    lr, decay, steps = 1e-3, 0.1, 1000
    rng = np.random.default_rng(2)
    start = torch.tensor(rng.normal(size=(6, 3)))
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        AdamW([ours], lr=lr, eps=1e-8, weight_decay=decay),
        torch.optim.AdamW([theirs], lr=lr, eps=1e-8, weight_decay=decay),
    )
    for _ in range(steps):
        gradient = torch.tensor(rng.normal(size=(6, 3)))
        for theta, optimizer in zip((ours, theirs), optimizers, strict=True):
            theta.grad = gradient.clone()
            optimizer.step()
    distance = (ours - theirs).abs().max().item()
    assert 0 < distance <= 2 * steps * lr**2 * decay


@settings(max_examples=25)
@given(
    shape=st.lists(st.integers(1, 7), min_size=0, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    transposed=st.booleans(),
)
def test_any_shape_dtype_and_memory_layout_steps_alike(shape, dtype, transposed):
    torch.manual_seed(0)
    value, gradient = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    plain = nn.Parameter(value.clone())
    plain.grad = gradient.clone()
    other = value.clone()
    if transposed and other.dim() >= 2:
        other = other.transpose(0, 1).contiguous().transpose(0, 1)
    other = nn.Parameter(other)
    other.grad = gradient.clone()
    for theta in (plain, other):
        AdamW([theta], weight_decay=0.1).step()
    torch.testing.assert_close(plain, other, rtol=1e-6, atol=1e-6)
    assert plain.dtype == dtype


def test_parameters_of_several_dtypes_share_an_optimizer():
    parameters = [nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64)]
    for p in parameters:
        p.grad = torch.full_like(p, 2.0)
    AdamW([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.25).step()
    assert [p[0].item() for p in parameters] == pytest.approx([0.75, 0.5])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parameters_on_several_devices_share_an_optimizer():
    parameters = [nn.Parameter(torch.ones(3, device=device)) for device in ("cpu", "cuda")]
    for p in parameters:
        p.grad = torch.full_like(p, 2.0)
    AdamW(parameters, lr=0.25).step()
    assert torch.allclose(parameters[0], parameters[1].cpu())


def test_the_state_round_trips_through_a_file(tmp_path):
    def noisy_steps(theta, optimizer, seed, steps):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            theta.grad = torch.randn(theta.shape, generator=generator)
            optimizer.step()

    straight = nn.Parameter(torch.ones(10))
    optimizer = AdamW([straight], lr=0.1, weight_decay=0.1)
    noisy_steps(straight, optimizer, seed=0, steps=5)
    torch.save({"theta": straight, "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    noisy_steps(straight, optimizer, seed=1, steps=5)

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = nn.Parameter(saved["theta"].detach())
    optimizer = AdamW([resumed])
    optimizer.load_state_dict(saved["optimizer"])
    noisy_steps(resumed, optimizer, seed=1, steps=5)
    assert torch.equal(straight, resumed)


def test_the_closure_runs_with_gradients_on_and_its_loss_is_returned():
    theta = nn.Parameter(torch.tensor([3.0]))
    optimizer = AdamW([theta], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (theta**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert theta.item() == pytest.approx(2.5)


def test_a_sparse_gradient_is_a_clear_error():
    embedding = nn.Embedding(10, 4, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"a gradient is sparse; .*sparse=False"):
        AdamW(embedding.parameters()).step()


def test_complex_parameters_are_refused():
    with pytest.raises(ValueError, match="params must be real"):
        AdamW([nn.Parameter(torch.ones(2, dtype=torch.complex64))])


def test_a_parameter_without_a_gradient_stays_as_it_is():
    theta = nn.Parameter(torch.ones(3))
    optimizer = AdamW([theta], weight_decay=0.5)
    optimizer.step()
    assert torch.equal(theta, torch.ones(3)) and not optimizer.state


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"betas": (0.9,)},
        {"betas": 0.9},
        {"lr": "1e-3"},
        {"lr": None},
        {"eps": -1e-8},
        {"weight_decay": -0.1},
        {"weight_decay": float("inf")},
    ],
)
def test_a_hyper_parameter_out_of_range_is_named(bad):
    (name,) = bad
    theta = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match=name):
        AdamW([theta], **bad)
    with pytest.raises(ValueError, match=name):
        AdamW([{"params": [theta], **bad}])


def test_a_step_allocates_no_copy_of_the_parameter():
    theta = nn.Parameter(torch.zeros(2**20))
    theta.grad = torch.ones_like(theta)
    optimizer = AdamW([theta], weight_decay=0.1)
    optimizer.step()
    with torch.profiler.profile(profile_memory=True) as profile:
        optimizer.step()
    assert max(event.self_cpu_memory_usage for event in profile.events()) < theta.nbytes / 100


NUMBERS = [float, np.float32, np.float64, torch.tensor, lambda x: torch.tensor(x).double()]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_kind_of_number_means_its_value(number, way):
    """Tensors are read and never changed in place, on the kernel's path and on the formulas'."""
    values = {"lr": 0.25, "eps": 0.5, "weight_decay": 0.125}
    betas = (0.5, 0.75)
    thetas = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    hyper = {name: number(value) for name, value in values.items()}
    given_betas = tuple(map(number, betas))
    optimizers = [
        AdamW([thetas[0]], betas=betas, **values),
        AdamW([thetas[1]], betas=given_betas, **hyper),
    ]
    for step in range(4):
        for theta, optimizer in zip(thetas, optimizers, strict=True):
            theta.grad = torch.full((3,), step - 1.5)
            optimizer.step()
    assert torch.equal(*thetas) and not torch.equal(thetas[0], torch.ones(3))
    assert {name: float(value) for name, value in hyper.items()} == values
    assert tuple(map(float, given_betas)) == betas


def test_a_scheduler_may_write_a_tensor_learning_rate(way):
    rates = []
    theta = nn.Parameter(torch.ones(2))
    optimizer = AdamW([theta], lr=torch.tensor(0.5), weight_decay=0.25)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(4):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        theta.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    assert rates == [0.5, 0.25, 0.125, 0.0625]


def test_gpt2_fast_0_turns_the_kernel_off(monkeypatch):
    monkeypatch.setenv("GPT2_FAST", "0")
    calls = []
    update = AdamW._update
    monkeypatch.setattr(AdamW, "_update", lambda *a, **k: (calls.append(1), update(*a, **k)))
    theta = nn.Parameter(torch.ones(2))
    theta.grad = torch.ones(2)
    AdamW([theta]).step()
    assert calls == [1]


def changed(self, p, state, **numbers):
    """Formulas that someone has changed."""
    state["step"] += 1
    p.sub_(numbers["lr"] * p.grad.sign())


class Subclass(AdamW):
    _update = changed


@pytest.mark.parametrize("how", ["patched", "subclass"])
def test_changed_formulas_are_the_ones_that_run(how, monkeypatch):
    optimizer_class = Subclass
    if how == "patched":
        monkeypatch.setattr(AdamW, "_update", changed)
        optimizer_class = AdamW
    theta = nn.Parameter(torch.ones(3))
    theta.grad = torch.tensor([5.0, -1.0, 0.0])
    optimizer_class([theta], lr=0.25).step()
    assert theta.tolist() == [0.75, 1.25, 1.0]


def test_the_kernel_runs_for_unchanged_formulas(monkeypatch):
    calls = []
    together = optim.fused._update_together
    monkeypatch.setattr(
        optim.fused, "_update_together", lambda *a, **k: (calls.append(1), together(*a, **k))
    )
    theta = nn.Parameter(torch.ones(3))
    theta.grad = torch.ones(3)
    AdamW([theta]).step()
    assert calls
