"""Which heads compare names, and which places? Pairs of the small world that differ in one word.

A hypothesis that its premise entails gets another name (then the label is neutral) or another place
(contradictory). Activation patching (patching.py) says through which heads the change reaches the
answer:

    Anna is in the kitchen. Leo is by the river.   ↵ Anna is in the kitchen.   entailment
                                                     Nina is in the kitchen.   neutral
                                                     Anna is in the office.    contradictory

Each pair is new, and one that the model answers right. Heads are chosen on these pairs alone, so
that a test set can then say what they are needed for (questions.py).

Paper: Wang et al. 2023, "Interpretability in the Wild" (pairs that differ in a name).
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pandas as pd
import torch

from data.miniature.language import language
from data.miniature.world import FORMS, LABELS, NAMES, PLACES, draw_hypothesis, label_of
from extensions.interpret.gradients import log_odds
from extensions.interpret.heads import head_summaries
from extensions.interpret.patching import patching_effects
from extensions.interpret.study import Study, mean_interval
from extensions.interpret.tokens import Tokens
from gpt2.evaluate import answer
from gpt2.xnli import XNLI

KINDS = {"name": ("subject", NAMES, "neutral"), "place": ("place", PLACES, "contradictory")}
Head = tuple[int, int]  # layer and head
COUNT = 60  # pairs of each kind
TRIES = 50  # for each pair
CHOSEN = 2  # heads of each kind


def contrasts(study: Study, kind: str, count: int = COUNT, seed: int = 0) -> list[dict]:
    """Return pairs of prompts that differ in one word and that the model answers right: ids `clean`
    (entailment) and `corrupted`, of the same length, and the queries and keys of heads.py."""
    field, choices, label = KINDS[kind]
    rng, form, lang, found = random.Random(f"{kind} {seed}"), FORMS[0], language("en"), []
    digits = study.rows().digits
    for _ in range(TRIES * count):
        if len(found) == count:
            return found
        premise = form.premise(rng)
        hypothesis = draw_hypothesis(rng, form, premise, "entailment")
        other = replace(hypothesis, **{field: rng.choice(choices)}) if hypothesis else None
        if other is None or hypothesis.subject not in NAMES or label_of(premise, other) != label:
            continue
        said = lang.join([lang.say(fact) for fact in premise])
        texts = [
            XNLI.prompt.format(premise=said, hypo=lang.say(fact)) for fact in (hypothesis, other)
        ]
        clean, corrupted = (torch.tensor(study.tokenizer(text)["input_ids"]) for text in texts)
        if len(clean) != len(corrupted):
            continue
        _, log_p = answer(study.model, [clean, corrupted], digits)
        if log_p.argmax(dim=1).tolist() != [0, LABELS.index(label)]:
            continue
        tokens = Tokens(study.tokenizer, clean)
        words = {"name": hypothesis.subject, "place": lang.places[hypothesis.place]}
        links = {
            f"{name}→same {name}": [
                tokens.find(word, among) for among in (tokens.hypothesis, tokens.premise)
            ]
            for name, word in words.items()
        }
        found.append({"clean": clean, "corrupted": corrupted, "links": links})
    raise ValueError(
        f"the model answers only {len(found)} of {TRIES * count} pairs with another {kind} right; "
        "fine-tune it first"
    )


def head_effects(study: Study) -> pd.DataFrame:
    """Return a row a head: its effect for names and places with 95 % intervals, and what it looks
    at in the same pairs."""
    score, columns, pairs = log_odds(study.rows().digits, 0), {}, []
    for kind in KINDS:
        made = contrasts(study, kind)
        effects = torch.stack(
            [patching_effects(study.model, p["clean"], p["corrupted"], score) for p in made]
        )
        means = [mean_interval(e, range(len(made))) for e in effects.flatten(1).T.numpy()]
        for name, values in zip(("", " low", " high"), zip(*means, strict=True), strict=True):
            columns[f"{kind} effect{name}"] = values
        pairs += made
    links = [pair["links"] for pair in pairs]
    looks = head_summaries(study.model, study.tokenizer, [p["clean"] for p in pairs], links)
    return pd.DataFrame(columns, index=looks.index).join(looks)


def chosen_heads(effects: pd.DataFrame, count: int = CHOSEN) -> dict[str, list[Head]]:
    """Return the heads with the largest effect by kind."""
    return {kind: list(effects[f"{kind} effect"].nlargest(count).index) for kind in KINDS}


def random_sets(effects: pd.DataFrame, taken: Sequence, count: int) -> list[list[Head]]:
    """Return sets of as many heads that are not taken, at most `count` of them, in random order."""
    others = [head for head in effects.index if head not in taken]
    sets = [list(each) for each in combinations(others, CHOSEN)]
    return random.Random(0).sample(sets, min(count, len(sets)))
