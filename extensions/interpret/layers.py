"""In which layer is the answer, by language, and what else do the states hold?

The logit lens (lens.py) reads the three labels from every state at the prompt's last token. Probes
(probes.py) say what a linear classifier finds there: the label and how many words of the hypothesis
the premise has, at the last token, and the language, in the mean over a sentence's tokens. Each has
a control task, in which the class follows from the sentence's first two words at random.

    state      0    1    2    3
    lens       ·    ·    ?    ✓     written in the output's coordinates
    probe      ·    ?    ✓    ✓     there, in any coordinates
"""

import numpy as np
import pandas as pd
import torch

from extensions.interpret.lens import appearance, lens_table, read
from extensions.interpret.plots import plot_by_state
from extensions.interpret.probes import Task, last_states, probe, probe_table, word_overlap
from extensions.interpret.study import Answer, Study, prompts

SENTENCES = 200  # of each language, for the language probe


def layer_question(study: Study) -> Answer:
    """Read the answer from every state, with the lens and with probes."""
    lenses, rows = {}, {}
    for lang in study.languages:
        pairs = study.some(lang)
        states = last_states(study.model, prompts(pairs))
        lens = read(study.model, states, pairs.digits)
        lenses[lang] = lens_table(lens, pairs.labels)
        mean, low, high = appearance(lens)
        right, n = probe(states[:, -1], pairs.labels, study.some("en").data["premise"])
        rows[lang] = {"appears in state": mean, "low": low, "high": high}
        rows[lang] |= {"lens, last state": lenses[lang]["accuracy"].iloc[-1]}
        rows[lang] |= {"probe, last state": right / n}
        if lang == "en":
            probes = [label_probes(study, states)]
    probes = pd.concat([*probes, language_probe(study)])
    by_language = pd.DataFrame.from_dict(rows, "index").rename_axis("language")
    lens_rows = pd.concat(lenses, names=["language"])
    return Answer(
        "In which layer is the answer, by language, and what do the states hold?",
        [_sentence(by_language), _probes(probes)],
        {
            "layers": by_language,
            "layers_lens": lens_rows,
            "layers_probes": probes.set_index(["task", "state"]),
        },
        _figure(study, lens_rows, probes),
    )


def label_probes(study: Study, states: torch.Tensor) -> pd.DataFrame:
    """Probe the states at the last tokens of English prompts for label and word overlap."""
    pairs = study.some("en")
    overlap = np.array(word_overlap(pairs.data["premise"], pairs.data["hypo"]))
    types = _types(pairs.data["hypo"])
    tasks = {
        "label": Task(pairs.labels, types),
        "word overlap": Task((overlap > np.median(overlap)).tolist(), types),
    }
    return probe_table(states, tasks, pairs.data["premise"])


def language_probe(study: Study) -> pd.DataFrame:
    """Probe the mean states of sentences for their language; translations are on the same side."""
    premises = study.rows().data["premise"].drop_duplicates()[:SENTENCES]
    states = [study.sentence_states[lang][: len(premises)] for lang in study.languages]
    targets = [lang for lang in study.languages for _ in premises]
    types = _types(premises) * len(study.languages)
    groups = list(range(len(premises))) * len(study.languages)
    return probe_table(torch.cat(states), {"language": Task(targets, types)}, groups)


def _types(texts) -> list[str]:
    return [" ".join(text.split()[:2]) for text in texts]


def _figure(study: Study, lens_rows: pd.DataFrame, probes: pd.DataFrame):
    above = [lang for lang, e in study.zero_shot.items() if e.interval[0] > 1 / 3]
    shown = lens_rows.loc[above[:7]].reset_index()
    panels = {
        "Logit lens: accuracy of the labels": shown.rename(
            columns={"language": "series", "accuracy": "value"}
        ),
        "Probes (dashed: control task)": probes.rename(
            columns={"task": "series", "accuracy": "value"}
        ),
    }
    return plot_by_state(panels, y="accuracy")


def _sentence(table: pd.DataFrame) -> str:
    first, last = table["appears in state"].idxmin(), table["appears in state"].idxmax()
    said = [
        f"{table.loc[lang, 'appears in state']:.2f} [{table.loc[lang, 'low']:.2f}, "
        f"{table.loc[lang, 'high']:.2f}] in {lang}"
        for lang in dict.fromkeys(("en", first, last))
    ]
    hidden = table["probe, last state"] - table["lens, last state"]
    most = hidden.idxmax()
    return (
        f"The final choice among the labels appears, on average, in state {', '.join(said)} (the "
        f"earliest and the latest). In {most} a probe finds the label in the last state of "
        f"{table.loc[most, 'probe, last state']:.0%} of the pairs, where the model's own choice is "
        f"right for {table.loc[most, 'lens, last state']:.0%}."
    )


def _probes(probes: pd.DataFrame) -> str:
    parts = []
    for task, rows in probes.groupby("task", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        parts.append(
            f"{task} {first['accuracy']:.0%} in state 0 and {last['accuracy']:.0%} in the last "
            f"(selectivity {first['selectivity']:+.2f} and {last['selectivity']:+.2f})"
        )
    return f"Probes find {'; '.join(parts)}."
