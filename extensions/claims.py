"""Claims of the literature about fine-tuning and smaller models, tested on our data.

A claim says that one method is as good as another, or better. Both are trained with every seed and
compared pair by pair (experiments.statistics.paired_test); the table gives the numbers whichever
way they fall. `sweep` varies one thing by itself: LoRA's rank, the number of layers.

Papers: Hu et al. 2021 (LoRA), Schulman 2025 ("LoRA Without Regret": all layers, ten times the
rate), Dettmers et al. 2022 (int8), Frantar et al. 2022 (GPTQ), Sun et al. 2023 (Wanda), Hinton et
al. 2015 and Sanh et al. 2019 (distillation).
"""

from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from experiments.statistics import holm, paired_test
from extensions import lora
from extensions.frontier import Frontier
from extensions.methods import FULL, METHODS, Method

LORA = "LoRA, rank 8"
RANKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Claim:
    """Of `second`, compared with `first`."""

    text: str
    first: str
    second: str
    measure: str = "accuracy"


AS_GOOD = Claim("LoRA at ten times the rate equals full fine-tuning", FULL, LORA)
FEW = Claim("LoRA is better than full fine-tuning on a tenth of the data", FULL, LORA)
SMALLER = (
    Claim("int8 loses at most half a point", FULL, "int8"),
    *(
        Claim(f"GPTQ has a lower loss, {n} bits", f"{n} bits, nearest", f"{n} bits, GPTQ", "loss")
        for n in (4, 3, 2)
    ),
    Claim(
        "Wanda is better than magnitude", "half the weights, magnitude", "half the weights, Wanda"
    ),
    Claim("a student is better with a teacher", "student, labels alone", "student, teacher"),
    Claim("the teacher's states help", "student, teacher", "student, teacher and states"),
)


def claims_table(frontier: Frontier) -> pd.DataFrame:
    """Return a row a claim: both means over the seeds, second minus first, and its paired test."""
    at_ten = {FULL: Method(None, (1,)), LORA: replace(METHODS[LORA], rates=(10,))}
    few = replace(frontier.settings, subset=max(2, _rows(frontier) // 10))  # 1 would be all
    tested = [(AS_GOOD, frontier.like(methods=at_ten))]
    tested += [(FEW, frontier.like(settings=few, methods={m: METHODS[m] for m in (FULL, LORA)}))]
    names = {*frontier.methods, *frontier.compressions}
    tested += [(c, frontier) for c in SMALLER if {c.first, c.second} <= names]
    return _compare(tested)


def sweep(frontier: Frontier, what: str) -> pd.DataFrame:
    """Return accuracy by LoRA's "rank" (at ten times the rate), or by how many of the first
    "layers" are fine-tuned, the others removed; tested against rank 8, or all layers."""
    count = frontier.base_config.num_hidden_layers
    if what == "rank":
        values, reference = RANKS, f"LoRA, rank {8}"
        methods = {f"LoRA, rank {r}": Method(partial(lora.attach, rank=r), (10,)) for r in RANKS}
    else:
        values, reference = range(1, count + 1), FULL
        methods = {f"first {n} layers": Method(None, (1,), layers=range(n)) for n in values[:-1]}
    varied = frontier.like(methods={FULL: Method(None, (1,)), **methods})
    names = [*methods] if what == "rank" else [*methods, FULL]
    table = _compare([(Claim(name, reference, name), varied) for name in names])
    table.index = pd.Index(values, name=what)
    return table.drop(columns="first").rename(columns={"second": "accuracy"})


def _compare(tested: list[tuple[Claim, Frontier]]) -> pd.DataFrame:
    rows = {}
    for claim, frontier in tested:
        lang = frontier.languages[0]
        first, second = (
            [frontier.evaluations(name, seed)[lang] for seed in frontier.seeds]
            for name in (claim.first, claim.second)
        )
        a, b = (pd.Series([getattr(e, claim.measure) for e in es]) for es in (first, second))
        each = {"difference": (b - a).mean(), "std": (b - a).std()}
        p = paired_test(first, second, claim.measure)
        rows[claim.text] = {"first": a.mean(), "second": b.mean(), **each, "p": p}
    table = pd.DataFrame.from_dict(rows, "index")
    return table.assign(**{"p corrected": holm(table["p"].tolist())})


def _rows(frontier: Frontier) -> int:
    rows = frontier.rows("train", frontier.languages[0], subset=frontier.settings.subset)
    return len(rows)
