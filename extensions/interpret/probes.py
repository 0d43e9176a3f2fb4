"""Linear probes: what can be read from a state by a weighted sum, and what the probe adds itself.

A probe is a classifier that is trained on the states of a layer, softmax(A·x + b). If it tells the
label from states of texts that it has not seen, then the state holds it. But a probe can also learn
by heart. A *control task* gives it only that chance: every type of input (every subject, say) gets
a random class, which can be known for new texts only by knowing the type. What counts is

    selectivity = accuracy on the task - accuracy on the control task

    Anna is in the kitchen.   task: entailment   control: "Anna"  → class 2, always
    David is by the river.    task: neutral      control: "David" → class 0, always

Texts that belong together (the three hypotheses of a premise, translations) are all on the same
side of the split, so that the probe is never tested on what it was trained on.

Paper: Hewitt & Liang 2019, "Designing and Interpreting Probes with Control Tasks" (EMNLP).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from experiments.baseline import linear_classifier
from experiments.statistics import wilson_interval
from extensions.interpret.capture import last_positions, of_each
from gpt2.model import GPT2Model


@dataclass(frozen=True)
class Task:
    """What a probe predicts of each text; `types` decide the class in the control task."""

    targets: Sequence
    types: Sequence


def probe(states: Tensor, targets: Sequence, groups: Sequence, seed: int = 0) -> tuple[int, int]:
    """Train a probe on half of the groups; return how many of the other half's texts are right, and
    how many there are. `states` are (N, d)."""
    x, y = states.float().numpy(), np.asarray(targets)
    split = GroupShuffleSplit(1, test_size=0.5, random_state=seed)
    train, test = next(split.split(x, y, groups))
    model = make_pipeline(StandardScaler(), linear_classifier(y[train], max_iter=2000))
    model.fit(x[train], y[train])
    return int((model.predict(x[test]) == y[test]).sum()), len(test)


def control_targets(types: Sequence, targets: Sequence, seed: int = 0) -> list:
    """Return a random class for each type, as frequent as the classes are among the targets."""
    rng, names = np.random.default_rng(seed), sorted(set(types))
    chosen = dict(zip(names, rng.choice(np.asarray(targets), len(names)), strict=True))
    return [chosen[name] for name in types]


def probe_table(
    states: Tensor, tasks: Mapping[str, Task], groups: Sequence, seed: int = 0
) -> pd.DataFrame:
    """Return a row a task and state, of states (N, L + 1, d): the probe's accuracy with its 95 %
    interval, the control task's, selectivity, and the share of the most frequent class."""
    rows = []
    for name, task in tasks.items():
        controls = control_targets(task.types, task.targets, seed)
        _, counts = np.unique(np.asarray(task.targets), return_counts=True)
        for state in range(states.size(1)):
            right, n = probe(states[:, state], task.targets, groups, seed)
            control, _ = probe(states[:, state], controls, groups, seed)
            low, high = wilson_interval(right, n)
            row = {"task": name, "state": state, "accuracy": right / n, "low": low, "high": high}
            row |= {"control": control / n, "selectivity": (right - control) / n}
            rows.append(row | {"most frequent": counts.max() / counts.sum()})
    return pd.DataFrame(rows)


def mean_states(model: GPT2Model, prompts: Sequence[Tensor]) -> Tensor:
    """Return each text's states, mean over its tokens, (N, L + 1, d)."""

    def take(row, seen) -> Tensor:
        return torch.stack([state.mean(dim=0) for state in seen.states]).cpu()

    return torch.stack(of_each(model, prompts, take, weights=False))


def last_states(model: GPT2Model, prompts: Sequence[Tensor]) -> Tensor:
    """Return the states at each text's last token, (N, L + 1, d)."""
    return last_positions(model, prompts, lambda seen: torch.stack(seen.states, dim=2))


def word_overlap(premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
    """Return the share of each hypothesis' words that its premise has, case and marks aside."""
    shares = []
    for premise, hypothesis in zip(premises, hypotheses, strict=True):
        words, known = _words(hypothesis), set(_words(premise))
        shares.append(sum(word in known for word in words) / max(len(words), 1))
    return shares


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?").lower() for word in text.split()]
