"""Which errors appear without the heads that compare names and places?

The heads are chosen on pairs made for it (contrasts.py). What they are needed for, the test set
says: they are ablated, and the errors counted by phenomenon, beside the errors without as many
other heads, drawn at random.

    test pairs ──▶ model ─────────────────▶ errors by phenomenon
               ──▶ model, 2 heads give 0 ──▶ errors by phenomenon ─┐ paired test, pair by pair,
               ──▶ model, 2 others give 0 ─▶ errors (15 times) ────┘ Holm
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.evaluation import Evaluation
from experiments.statistics import holm
from extensions.interpret.contrasts import KINDS, Head, chosen_heads, head_effects, random_sets
from extensions.interpret.errors import (
    ALL,
    confusion_shares,
    error_table,
    more_errors,
    phenomenon_groups,
)
from extensions.interpret.patching import without
from extensions.interpret.plots import plot_intervals
from extensions.interpret.study import Answer, Study

RANDOM = 15  # sets of other heads
INTACT, OTHERS = "all heads", "without random heads"


def head_question(study: Study) -> Answer:
    """Ablate the heads that compare names, those that compare places, and random ones."""
    effects = head_effects(study)
    chosen = chosen_heads(effects)
    others = random_sets(effects, [head for heads in chosen.values() for head in heads], RANDOM)
    settings = {INTACT: [study.zero_shot["en"]]}
    settings |= {f"without {kind} heads": [ablated(study, chosen[kind])] for kind in KINDS}
    settings[OTHERS] = [ablated(study, heads) for heads in others]
    groups, confusions = (
        phenomenon_groups(study),
        {name: confusion_shares(es) for name, es in settings.items()},
    )
    errors = pd.concat(
        [error_table(es, groups).assign(series=name) for name, es in settings.items()]
    )
    tests = pd.concat(
        [
            more_errors(settings[OTHERS], settings[f"without {kind} heads"], groups, study)
            for kind in KINDS
        ],
        keys=KINDS,
        names=["heads"],
    )
    tests["p corrected"] = holm(tests["p"].tolist())
    tables = {
        "heads": effects,
        "heads_errors": errors.set_index(["series", "group"]),
        "heads_tests": tests,
        "heads_confusions": pd.concat(confusions, names=["setting", "label"]),
    }
    return Answer(
        "Which heads compare names and places, and which errors appear without them?",
        [_sentence(kind, chosen[kind], settings, tests.loc[kind], confusions) for kind in KINDS],
        tables,
        plot_intervals(errors, "Errors by phenomenon without heads", x="share of errors"),
    )


def ablated(study: Study, heads: Sequence[Head]) -> Evaluation:
    """Return the predictions for the English test set without these heads."""
    by_layer = {layer: [h for at, h in heads if at == layer] for layer, _ in heads}
    with without(study.model, by_layer):
        return study.predict(study.rows())


def _sentence(kind: str, heads: Sequence[Head], settings: dict, tests, confusions: dict) -> str:
    name = f"without {kind} heads"
    accuracies = [e.accuracy for e in settings[OTHERS]]
    significant = tests[(tests["p corrected"] < 0.05) & (tests["more errors"] > 0)].drop(
        ALL, errors="ignore"
    )
    most = significant.sort_values("more errors", ascending=False)["more errors"]
    where = ", ".join(f"{group} (+{100 * more:.0f} points)" for group, more in most.items())
    new = (confusions[name] - confusions[INTACT]).stack()
    label, prediction = new[[a != b for a, b in new.index]].idxmax()
    return (
        f"A changed {kind} reaches the answer mostly through "
        f"{' and '.join(f'layer {layer} head {head}' for layer, head in heads)}. Without them "
        f"accuracy falls from {settings[INTACT][0].accuracy:.1%} to "
        f"{settings[name][0].accuracy:.1%}, without as many random heads to "
        f"{np.mean(accuracies):.1%} on average (lowest of {len(accuracies)} sets: "
        f"{min(accuracies):.1%}). More errors than without random heads (Holm, 5 %) on: "
        f"{where or 'no phenomenon'}. The error that grows most: {label} pairs answered as "
        f"{prediction}, {confusions[INTACT].loc[label, prediction]:.1%} to "
        f"{confusions[name].loc[label, prediction]:.1%}."
    )
