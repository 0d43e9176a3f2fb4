"""Does zero-shot transfer need the neurons that are specific to a language?

LAPE (neurons.py) chooses neurons on the sentences of dev. They give 0 on test pairs of their
language, beside as many neurons of the same layers, drawn at random, five times:

    es: 11 neurons of lowest LAPE, active in es ─▶ 0 ─▶ accuracy  ┐ the same pairs: paired test,
    es: 11 others of the same layers            ─▶ 0 ─▶ accuracy  ┘ Holm for all languages

Tang et al. (2024) take the lowest 1 % of hundreds of thousands of neurons. The miniature has 1,536,
of which 1 % would be 15 for fifteen languages, so here it is 5 %.
"""

import random

import pandas as pd

from experiments.evaluation import Evaluation
from experiments.statistics import holm, paired_test, wilson_interval
from extensions.interpret.neurons import active_shares, language_neurons
from extensions.interpret.patching import without
from extensions.interpret.plots import plot_intervals
from extensions.interpret.study import Answer, Study, mean_interval

RATE = 0.05
RANDOM = 5  # sets of other neurons
SENTENCES = 300  # premises and hypotheses each, of each language, at most
Neurons = dict[int, list[int]]  # by layer


def neuron_question(study: Study) -> Answer:
    """Ablate each language's neurons, and random ones."""
    shares = {
        lang: active_shares(
            study.model,
            [
                ids
                for column in ("premise", "hypo")
                for ids in study.sentences(lang, "dev", column, SENTENCES)
            ],
        )
        for lang in study.languages
    }
    own, rows, drawn = language_neurons(shares, RATE), {}, []
    for lang in study.languages:
        count = sum(map(len, own[lang].values()))
        if not count:
            continue
        pairs = study.some(lang)
        intact = Evaluation(study.zero_shot[lang].predictions[: len(pairs)])
        specific = _ablated(study, lang, own[lang])
        others = [_ablated(study, lang, _random(study, own[lang], seed)) for seed in range(RANDOM)]
        mean = sum(e.by_pair() for e in others) / len(others)
        fewer = (specific.by_pair() - mean).to_numpy()
        interval = mean_interval(fewer, pairs.data["premise"])
        rows[lang] = {"neurons": count, "intact": intact.accuracy, "without": specific.accuracy}
        rows[lang] |= {"without random": mean.mean()}
        rows[lang] |= dict(zip(("difference", "low", "high"), interval, strict=True))
        rows[lang]["p"] = paired_test(others, [specific])
        drawn += [
            _point(lang, "all neurons", intact.accuracy, len(pairs)),
            _point(lang, "without its neurons", specific.accuracy, len(pairs)),
            _point(lang, "without random neurons", mean.mean(), len(pairs)),
        ]
    table = pd.DataFrame.from_dict(rows, "index").rename_axis("language")
    table["p corrected"] = holm(table["p"].tolist())
    return Answer(
        "Does removing language-specific neurons hurt transfer?",
        [_sentence(table, study)],
        {"neurons": table},
        plot_intervals(
            pd.DataFrame(drawn),
            "Accuracy without neurons (dashed: chance)",
            x="accuracy with 95 % interval",
            line=1 / 3,
        ),
    )


def _ablated(study: Study, lang: str, neurons: Neurons) -> Evaluation:
    with without(study.model, neurons=neurons):
        return study.predict(study.some(lang))


def _random(study: Study, taken: Neurons, seed: int) -> Neurons:
    """Return as many neurons of each layer that are not taken."""
    rng, width = random.Random(seed), study.model.config.intermediate_size
    return {
        layer: rng.sample(sorted({*range(width)} - {*neurons}), len(neurons))
        for layer, neurons in taken.items()
    }


def _point(lang: str, series: str, accuracy: float, n: int) -> dict:
    low, high = wilson_interval(round(accuracy * n), n)
    return {"group": lang, "series": series, "value": accuracy, "low": low, "high": high}


def _sentence(table: pd.DataFrame, study: Study) -> str:
    hurt = table[(table["p corrected"] < 0.05) & (table["difference"] < 0)]
    helped = table[(table["p corrected"] < 0.05) & (table["difference"] > 0)]
    without_any = [lang for lang in study.languages if lang not in table.index]
    said = ", ".join(f"{lang} ({100 * d:+.1f} points)" for lang, d in hurt["difference"].items())
    text = (
        f"LAPE gives {int(table['neurons'].min())} to {int(table['neurons'].max())} neurons to a "
        f"language{', none to ' + ', '.join(without_any) if without_any else ''}. Removing them "
        f"lowers accuracy more than removing random ones (paired test, Holm, 5 %) in {len(hurt)} "
        f"of {len(table)} languages{': ' + said if said else ''}"
    )
    better = ", ".join(f"{lang} ({100 * d:+.1f})" for lang, d in helped["difference"].items())
    return text + (f"; in {better} accuracy is higher without them." if better else ".")
