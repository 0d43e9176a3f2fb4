"""Beam search, sampling and the processors of logits: transformers' tokens, claimed shares."""

import pytest
import torch
import transformers
from scipy.stats import chisquare

from gpt2.decoding import Decoding, penalize_repetition, restrict
from gpt2.generate import generate
from tests.gpt2.generation import EOS, prompts, theirs

# ---- Processors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "warper"),
    [
        ({"temperature": 0.7}, transformers.TemperatureLogitsWarper(0.7)),
        ({"top_k": 5}, transformers.TopKLogitsWarper(5)),
        ({"top_k": 500}, transformers.TopKLogitsWarper(500)),
        ({"top_p": 0.6}, transformers.TopPLogitsWarper(0.6)),
        ({"top_p": 0.01}, transformers.TopPLogitsWarper(0.01)),
        ({"min_p": 0.1}, transformers.MinPLogitsWarper(0.1)),
    ],
)
def test_each_restriction_equals_transformers(ours, warper):
    logits = 3 * torch.randn(50, 31, generator=torch.Generator().manual_seed(1))
    expected = warper(None, logits.clone())
    assert torch.allclose(restrict(logits, Decoding(do_sample=True, **ours)), expected)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}])
@pytest.mark.parametrize("penalty", [0.7, 1.3, 5.0])
def test_the_repetition_penalty_gives_transformers_tokens(penalty, settings, pair):
    ids, mask = prompts(lengths=(6, 6))
    expected = theirs(pair[0], ids, mask, repetition_penalty=penalty, **settings)
    got = generate(
        pair[1], ids, mask, max_new_tokens=20, eos=EOS, repetition_penalty=penalty, **settings
    )
    assert got.tolist() == expected


def test_pads_are_no_repetition():
    ids, mask = torch.tensor([[3, 1, 1]]), torch.tensor([[0, 1, 1]])
    penalized = penalize_repetition(torch.ones(1, 4), ids, mask, 2.0)
    assert penalized.tolist() == [[1.0, 0.5, 1.0, 1.0]]


# ---- Beam search -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["pair", "trained_pair"])
@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_beam_search_gives_transformers_tokens(which, beams, length_penalty, request):
    reference, ours = request.getfixturevalue(which)
    settings = {"num_beams": beams, "length_penalty": length_penalty}
    for seed in range(2):
        ids, mask = prompts(lengths=(9, 3 + seed, 6))
        expected = theirs(reference, ids, mask, new=15, **settings)
        for use_cache in (True, False):
            more = settings | {"use_cache": use_cache}
            got = generate(ours, ids, mask, max_new_tokens=15, eos=EOS, **more)
            assert got.tolist() == expected


def test_with_as_many_beams_as_tokens_the_most_probable_of_all_pairs_is_found(pair):
    model = pair[1]
    prompt = torch.tensor([[3, 11, 5]])
    everything = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    sequences = torch.cat([prompt.expand(len(everything), -1), everything], dim=1)
    with torch.no_grad():
        hidden = model(sequences)["last_hidden_state"]
        scores = model.hidden_state_to_token(hidden[:, 2:4]).log_softmax(-1)
    best = everything[scores.gather(2, everything[:, :, None]).sum(dim=(1, 2)).argmax()]
    got = generate(model, prompt, max_new_tokens=2, eos=-1, num_beams=23)
    assert got.tolist() == [best.tolist()]


# ---- Sampling ----------------------------------------------------------------------------------


def test_sampling_is_reproducible_from_its_generator(pair):
    draws = [
        generate(
            pair[1],
            *prompts(),
            max_new_tokens=15,
            eos=EOS,
            do_sample=True,
            generator=torch.Generator().manual_seed(seed),
        ).tolist()
        for seed in (4, 4, 5)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 4},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"temperature": 1.5, "top_k": 9, "top_p": 0.9},
    ],
)
def test_draws_match_the_distribution_they_claim(settings, pair):
    """A chi-square test of 20,000 draws against probabilities computed by hand."""
    model, n = pair[1], 20_000
    prompt = torch.tensor([[3, 11, 5]])
    with torch.no_grad():
        logits = model.hidden_state_to_token(model(prompt)["last_token"])[0].double()
    p = (logits / settings.get("temperature", 1.0)).softmax(0)
    kept = torch.ones_like(p, dtype=torch.bool)
    if "top_k" in settings:
        kept &= p >= p.sort(descending=True).values[settings["top_k"] - 1]
    if "top_p" in settings:
        order = (p * kept / (p * kept).sum()).sort(descending=True)
        inside = order.values.cumsum(0) - order.values < settings["top_p"]
        kept &= torch.zeros_like(kept).scatter(0, order.indices, inside)
    if "min_p" in settings:
        kept &= p >= settings["min_p"] * p.max()
    p = (p * kept / (p * kept).sum())[kept]
    draws = generate(
        model,
        prompt.expand(n, -1),
        max_new_tokens=1,
        eos=-1,
        do_sample=True,
        generator=torch.Generator().manual_seed(0),
        **settings,
    )
    counts = torch.bincount(draws[:, 0], minlength=23)
    assert counts[~kept].sum() == 0
    assert chisquare(counts[kept].numpy(), n * p.numpy()).pvalue > 1e-3
