"""What every attention head looks at, on average over a data set.

One sentence shows what a head can do; a data set shows what it does. For the weights a (T, T) of a
head, a row t a query:

    entropy, relative    -Σ_s a_ts log a_ts / log(t + 1)     0: one token; 1: all of them alike
    first token          a_t0                                where a head rests (Clark et al. 2019)
    previous token       a_t,t-1
    itself               a_tt
    same token           Σ a_ts over earlier tokens s that equal t
    hypothesis→premise   Σ a_ts over the premise's s, for the hypothesis' t

    keys      Anna  is  in  the  kitchen .  ↵  Anna  is ...
    query       └───────────── a_ts ─────────────┘         same token, hypothesis→premise

Queries are those from the third token on, for which the first, the previous and the own token
differ. The premise never looks at the hypothesis, which comes later.

Papers: Clark et al. 2019, "What Does BERT Look At?"; Vig & Belinkov 2019 (GPT-2).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from extensions.interpret.capture import of_each
from extensions.interpret.tokens import Tokens
from gpt2.model import GPT2Model

Links = Mapping[str, tuple[Sequence[int], Sequence[int]]]  # name -> queries and keys of a text
FROM = 2  # the first query that counts


def summarize(weights: Tensor, tokens: Tokens, links: Links) -> dict[str, Tensor]:
    """Return each measure of heads' weights (..., T, T) on one text: (...), NaN where there is no
    such query."""
    T = weights.size(-1)
    rows = torch.arange(T, device=weights.device)[FROM:]
    ids = torch.tensor(tokens.ids, device=weights.device)
    same = (ids[:, None] == ids).tril(-1)
    again = same.any(dim=1)
    in_premise = torch.zeros_like(again)
    in_premise[tokens.premise] = True
    shared = same & in_premise
    repeated = [t for t in tokens.hypothesis if shared[t].any()]
    entropy = torch.special.entr(weights).sum(dim=-1)[..., FROM:] / (rows + 1).log()
    measures = {
        "entropy": entropy.mean(dim=-1),
        "first token": weights[..., FROM:, 0].mean(dim=-1),
        "previous token": weights.diagonal(-1, -2, -1)[..., FROM - 1 :].mean(dim=-1),
        "itself": weights.diagonal(0, -2, -1)[..., FROM:].mean(dim=-1),
        "same token": (weights * same).sum(dim=-1)[..., again].mean(dim=-1),
        "hypothesis→premise": attention_between(weights, tokens.hypothesis, tokens.premise),
        "hypothesis→same in premise": (weights * shared).sum(-1)[..., repeated].mean(dim=-1),
    }
    return measures | {name: attention_between(weights, *link) for name, link in links.items()}


def attention_between(weights: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    """Return the attention that all keys together get from a query, mean over the queries."""
    if not len(keys):
        return torch.full(weights.shape[:-2], float("nan"))
    return weights[..., list(queries), :][..., list(keys)].sum(dim=-1).mean(dim=-1)


def head_summaries(
    model: GPT2Model, tokenizer, prompts: Sequence[Tensor], links: Sequence[Links] = ()
) -> pd.DataFrame:
    """Return a row a head (layer, head): each measure's mean over the prompts, ids (T,).

    `links` gives further measures, for each prompt its own queries and keys.
    """
    links = links or [{}] * len(prompts)
    if len(links) != len(prompts):
        raise ValueError(f"{len(links)} links for {len(prompts)} prompts; give one for each")

    def take(row, seen) -> dict[str, np.ndarray]:
        weights = torch.stack(seen.weights)  # (L, h, T, T)
        measures = summarize(weights, Tokens(tokenizer, prompts[row]), links[row])
        return {name: values.float().cpu().numpy() for name, values in measures.items()}

    texts = of_each(model, prompts, take)
    names = list(dict.fromkeys(name for text in texts for name in text))
    columns = {name: _mean([text[name] for text in texts if name in text]) for name in names}
    shape = columns[names[0]].shape
    index = pd.MultiIndex.from_product([range(n) for n in shape], names=["layer", "head"])
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index)


def _mean(values: list[np.ndarray]) -> np.ndarray:
    """Return the mean over texts, those without such a query left out; NaN where all are."""
    stacked = np.stack(values)
    count = (~np.isnan(stacked)).sum(axis=0)
    total = np.nansum(stacked, axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
