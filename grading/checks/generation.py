"""The check of section 4.1: greedy text, and what `choose` makes of it."""

from contextlib import suppress

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from grading.checks.cases import SMALL, Case, case, small_model
from grading.checks.findings import Findings

LOOP = "at each step: the mask, the model, the last state's logits, the most probable token, append"
ALONE = "each row gives the same text as alone: the mask hides its pads, and a row that has ended "
ALONE += "waits for the others"
GENERATED = {  # cases, and what a wrong text says
    "12 tokens after 5": LOOP,
    "12 tokens after 1": LOOP,
    "1 token after 1": LOOP,
    "end-of-text": "generate nothing after end-of-text",
    "the padding token as end-of-text": "generate nothing after end-of-text, whatever its id",
    "after end-of-text": "only a new end-of-text ends a text",
    "a padded batch": ALONE,
    "a batch upside down": ALONE,
}


def words(end: int):
    """Return a tokenizer of numbers: "0517" is two tokens, 5 and 17; `end` is end-of-text."""
    vocabulary = {f"{token:02d}": token for token in range(SMALL["vocab_size"])}
    model = Tokenizer(WordLevel(vocabulary, unk_token="00"))
    model.decoder = ByteLevel()  # puts nothing between tokens
    end, pad = f"{end:02d}", f"{SMALL['pad_token_id']:02d}"
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token=end, pad_token=pad)


def check_generation(findings: Findings) -> None:
    """generate_gpt2 against transformers' most probable tokens (section 4.1), and sampling."""
    for what, hint in GENERATED.items():
        given = case(f"generation: {what}")
        findings.case(given, findings.observe(_generate, given), hint)
    keys = case("attention: no mask").inputs["key"]
    got, hint = findings.observe(_cached, keys), "gpt2/cache.py stays as it was handed out"
    findings.close("what a cache holds", got, keys, hint=hint)
    batch = case("generation: a padded batch")
    got = findings.observe(_generate, batch, {"use_cache": False})
    findings.case(batch, got, ALONE, "a padded batch without a cache")
    given = case("generation: 12 tokens after 5")
    hint = "where `choose` is not None, it chooses from the logits, with the settings' temperature"
    hot, cold, drawn, penalized = findings.observe(_chosen, given, batch)
    if hot is not None:  # the handout has no sampling
        varied = all(len(set(place)) > 1 for place in zip(*hot, strict=False))
        expected = "others each time, at every place"
        findings.holds("do_sample draws", varied, "the same tokens", expected, hint)
        findings.case(batch, cold, hint, "a temperature near 0, a padded batch")
        probability, token = case("probabilities").expected.max(dim=-1)
        share, right = (drawn == token).any(dim=1).float().mean().item(), probability.item()
        got, expected = f"{share:.0%}", f"about {right:.0%}"
        findings.true("draws of the most probable", abs(share - right) < 0.15, got, expected, hint)
    if penalized is not None:
        hint = "`choose` gets the logits, the text so far and its mask"
        findings.case(case("penalty"), penalized, hint, "a repetition penalty")


def _cached(keys: Tensor) -> Tensor:
    """Return what a cache holds after reading these keys (B, h, S, d) two positions at a time."""
    from gpt2.cache import KeyValueCache

    cache = KeyValueCache()
    for part in keys.split(2, dim=2):
        held, _ = cache.layer(0).extend(part, part)
        cache.length += part.size(2)
    return held


def _generate(given: Case, decoding: dict | None = None) -> Tensor:
    """Return the tokens of each row's text, (B, longest), filled up with -1."""
    from gpt2.generate import generate_gpt2

    ids, mask, new, end = (given.inputs[name] for name in ("ids", "mask", "new", "end"))
    settings = {"max_gen_length": int(new), "attention_mask": mask}
    prompt = small_model().train(), words(int(end)), ids
    try:
        texts = generate_gpt2(*prompt, **settings, **(decoding or {}))
    except TypeError:
        if not decoding:
            raise
        texts = generate_gpt2(*prompt, **settings)  # the handout's own has no such settings
    return _tokens([texts] if isinstance(texts, str) else texts)


def _tokens(texts: list[str]) -> Tensor:
    rows = [torch.tensor([int(text[i : i + 2]) for i in range(0, len(text), 2)]) for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def _chosen(given: Case, batch: Case) -> list:
    """Return what `choose` makes of a text: tokens of six texts drawn almost evenly, the most
    probable ones of a batch, 400 draws of the next token, and tokens under a penalty for
    repetition. None for what is refused."""
    from gpt2.generate import generate_gpt2

    def texts(given: Case, new: int, rows: int = -1, seed: int = 0, **decoding) -> Tensor:
        ids, mask = (given.inputs[name].expand(rows, -1) for name in ("ids", "mask"))
        if decoding.get("do_sample"):
            decoding["generator"] = torch.Generator().manual_seed(seed)
        settings = {"max_gen_length": new, "attention_mask": mask, **decoding}
        texts = generate_gpt2(small_model(), words(int(given.inputs["end"])), ids, **settings)
        return _tokens([texts] if isinstance(texts, str) else texts)

    refused = (NotImplementedError, TypeError, ValueError)
    hot = cold = drawn = penalized = None
    with suppress(*refused):
        settings = {"do_sample": True, "temperature": 9.0}
        known = int((given.inputs["ids"] != SMALL["pad_token_id"]).sum())
        six = [texts(given, 6, seed=seed, **settings)[0, known:].tolist() for seed in range(6)]
        one = texts(batch, int(batch.inputs["new"]), do_sample=True, temperature=1e-6)
        hot, cold, drawn = six, one, texts(given, 1, rows=400, do_sample=True)[:, known:]
    with suppress(*refused):
        penalized = texts(given, int(given.inputs["new"]), repetition_penalty=3.0)
    return [hot, cold, drawn, penalized]
