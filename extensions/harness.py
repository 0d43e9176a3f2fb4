"""XNLI without training, by the rule of published tables: the most probable of three whole texts.

Published figures of BLOOM, XGLM and mGPT come from lm-evaluation-harness, where a model never sees
a label's digit: a word in the language of the pair joins premise and hypothesis (Lin et al. 2022).

    log P(<|endoftext|> premise, right?  Yes,  hypothesis)   ← largest: 0, entailment
    log P(<|endoftext|> premise, right?  No,   hypothesis)   ← largest: 1, contradiction
    log P(<|endoftext|> premise, right?  Also, hypothesis)   ← largest: 2, neutral
          └─────── the same ──────────┘  └── scored ───┘

The tables are of the 5,010 test pairs (task version 0); version 1 takes the 2,490 dev pairs. A
text starts with the tokenizer's own BOS token or, without one, with end-of-text as there.
The words are machine translations: Arabic says "number" for no, Spanish lacks an accent, Greek has
an obsolete one, which `words="corrected"` corrects. It leaves what is doubtful: only de, en and fr
say "also" for neutral, the others "so", which suits entailment.
"""

from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from console import progress_bar
from experiments.evaluation import Evaluation
from experiments.options import HERE, Codes, Data, Weights, run_command
from experiments.profiles import find_data, find_weights
from extensions.backbones import load_backbone
from gpt2.evaluate import GPU_TOKEN_BUDGET, TOKEN_BUDGET
from gpt2.fast import faster
from gpt2.loss import IGNORED, next_token_loss
from gpt2.samplers import BatchesByLength
from gpt2.tokenizer import encode_texts, prefix_ids
from gpt2.xnli import LABEL2ID, XNLIDataset
from utils import get_device, in_evaluation_mode

WORDS = {  # language: right, and the words for entailment, contradiction, neutral
    "ar": ("صحيح", "نعم", "رقم", "لذا"),
    "bg": ("правилно", "да", "не", "така"),
    "de": ("richtig", "Ja", "Nein", "Auch"),
    "el": ("σωστός", "Ναί", "όχι", "Έτσι"),
    "en": ("right", "Yes", "No", "Also"),
    "es": ("correcto", "Sí", "No", "Asi que"),
    "fr": ("correct", "Oui", "Non", "Aussi"),
    "hi": ("सही", "हाँ", "नहीं", "इसलिए"),
    "ru": ("правильно", "Да", "Нет", "Так"),
    "sw": ("sahihi", "Ndiyo", "Hapana", "Hivyo"),
    "th": ("ถูกต้อง", "ใช่", "ไม่", "ดังนั้น"),
    "tr": ("doğru", "Evet", "Hayır", "Böylece"),
    "ur": ("صحیح", "جی ہاں", "نہیں", "اس لئے"),
    "vi": ("đúng", "Vâng", "Không", "Vì vậy"),
    "zh": ("正确", "是的", "不是的", "所以"),
}
CORRECTED = WORDS | {
    "ar": ("صحيح", "نعم", "لا", "لذا"),
    "el": ("σωστός", "Ναι", "όχι", "Έτσι"),
    "es": ("correcto", "Sí", "No", "Así que"),
}
PUBLISHED = {  # per cent of the test pairs, in the order of WORDS
    "xglm-564m": "33.4 41.3 44.5 39.6 48.3 42.0 45.5 38.7 44.6 36.1 38.8 40.2 34.5 38.5 33.5",
    "bloom-560m": "33.4 33.4 34.8 33.3 49.5 45.2 45.3 40.8 34.0 33.2 33.6 33.4 37.1 40.5 34.0",
}


@torch.no_grad()
@in_evaluation_mode
def zero_shot(
    model, tokenizer, rows: XNLIDataset, *, words: str = "published", progress: bool = True
) -> pd.DataFrame:
    """Return the prediction for each pair, in the columns of gpt2.evaluate.predict.

    p(0), p(1) and p(2) are the probabilities of the three texts, divided by their sum. A text
    longer than the model's positions loses its start; how many pairs did is printed.
    """
    start = prefix_ids(tokenizer) or [tokenizer.eos_token_id]
    contexts, ids = (encode_texts(tokenizer, texts) for texts in candidates(rows, words))
    scored = [len(text) - len(contexts[i // 3]) for i, text in enumerate(ids)]
    limit = model.config.max_position_embeddings
    if cut := len({i // 3 for i, text in enumerate(ids) if len(start + text) > limit}):
        print(f"{cut:,} of {len(contexts):,} pairs lost the premise's start ({limit:,} positions)")
    ids = [torch.tensor((start + text)[-limit:]) for text in ids]
    sums = _log_probs(model, ids, torch.tensor(scored), progress).view(-1, 3)
    p = (sums - sums.logsumexp(dim=1, keepdim=True)).exp().numpy()
    columns = {
        "pair_id": rows.data["pair_id"].tolist(),
        "label": [str(LABEL2ID[label]) for label in rows.data["label"]],
        "prediction": [str(best) for best in p.argmax(axis=1)],
    }
    return pd.DataFrame(columns | {f"p({digit})": p[:, digit] for digit in range(3)})


def candidates(rows: XNLIDataset, words: str = "published") -> tuple[list[str], list[str]]:
    """Return each pair's context, and its three texts, in the order of the digits."""
    table = {"published": WORDS, "corrected": CORRECTED}.get(words, {})
    if rows.lang not in table:
        raise ValueError(f"no {words} words for {rows.lang}; give them in WORDS of {__name__}")
    question, *answers = table[rows.lang]
    contexts = [f"{premise}, {question}?" for premise in rows.data["premise"]]
    pairs = zip(contexts, rows.data["hypo"], strict=True)
    return contexts, [f"{context} {word}, {hypo}" for context, hypo in pairs for word in answers]


def _log_probs(model, ids: list, scored: torch.Tensor, progress: bool) -> torch.Tensor:
    """Return log P of each text's last tokens, `scored` many, given those before, summed: (N,)."""
    device = next(model.parameters()).device
    budget = TOKEN_BUDGET if device.type == "cpu" else GPU_TOKEN_BUDGET
    lengths, sums = torch.tensor([len(text) for text in ids]), torch.zeros(len(ids)).double()
    with faster(model), progress_bar(total=len(ids), unit="text", disable=not progress) as bar:
        for rows in BatchesByLength(lengths, budget):
            input_ids = pad_sequence([ids[i] for i in rows], batch_first=True)  # (B, T)
            position, end = torch.arange(input_ids.size(1)), lengths[rows, None]
            mask = position < end
            counted = mask & (position >= (end - scored[rows, None]).clamp(min=1))
            batch = {"input_ids": input_ids, "attention_mask": mask.long()}
            batch["labels"] = input_ids.masked_fill(~counted, IGNORED)
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            losses = next_token_loss(model, batch, reduction="none").double().cpu()
            sums[rows] -= torch.stack([x.sum() for x in losses.split(counted.sum(dim=1).tolist())])
            bar.update(len(rows))
    return sums


def main(
    weights: Weights,
    data: Data = HERE,
    languages: Codes = ("en",),
    split: Literal["dev", "test"] = "test",
    words: Literal["published", "corrected"] = "published",
    most: int | None = None,
) -> None:
    """Print the accuracy of a model that was not trained on NLI, beside published figures.

    Args:
        most: how many rows count in each language, from its start; by default all.
        words: of the label words, those of the published tables or without their mistakes.
    """
    model, tokenizer = load_backbone(find_weights(weights))
    model.to(get_device())
    figures = dict(zip(WORDS, PUBLISHED.get(Path(weights).name.lower(), "").split(), strict=False))
    print("language  accuracy  95 % interval   pairs  published (test)")
    for lang in languages:  # only the rows' texts are used, so any tokenizer will do
        part = {"subset": most or 1.0, "verbose": False}
        rows = XNLIDataset.in_folder(find_data(data), split, lang, **part)
        result = Evaluation(zero_shot(model, tokenizer, rows, words=words))
        interval = "[{:.1%}, {:.1%}]".format(*result.interval)
        figure = f"{figures[lang]}%" if lang in figures else ""
        print(f"{lang:8}  {result.accuracy:8.1%}  {interval}  {len(rows):6,}  {figure}".rstrip())


if __name__ == "__main__":
    run_command(main)
