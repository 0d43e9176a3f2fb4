"""NLI pairs about the small world, before they are said in any language."""

import random
from dataclasses import dataclass
from functools import cache

from data.miniature.world import FORMS, LABELS, NEW_NAMES, Fact, draw_hypothesis, is_rare

TRIPLES = {"train": 666, "dev": 100, "test": 600}


@dataclass(frozen=True)
class Pair:
    """A premise, a hypothesis, the label, and what one has to know to tell it."""

    premise: tuple[Fact, ...]
    hypothesis: Fact
    label: str
    phenomenon: str


@cache
def make_pairs(split: str) -> tuple[Pair, ...]:
    """Return a split's pairs; each premise has three, one of each label.

    The forms of world.FORMS are equally frequent, each with every label equally often. A fact of a
    dev or test premise is in no training pair; one in four of these premises has a new name.
    """
    rng = random.Random(f"miniature pairs, {split}")

    def is_allowed(fact: Fact) -> bool:
        return is_rare(fact) == (split != "train")

    pairs, premises = [], set()
    while len(pairs) < 3 * TRIPLES[split]:
        form = FORMS[len(premises) % len(FORMS)]
        facts = form.premise(rng)
        premise = tuple(rng.sample(facts, len(facts)))
        hypotheses = [draw_hypothesis(rng, form, premise, label) for label in LABELS]
        if None in hypotheses or premise in premises or not all(map(is_allowed, premise)):
            continue
        is_new = any(fact.subject in NEW_NAMES for fact in premise)
        if is_new != (split != "train" and len(premises) % 4 == 0):
            continue
        premises.add(premise)
        phenomenon = "names" if is_new else form.phenomenon
        triple = [
            Pair(premise, *labelled, phenomenon)
            for labelled in zip(hypotheses, LABELS, strict=True)
        ]
        pairs += rng.sample(triple, len(triple))
    return tuple(pairs)
