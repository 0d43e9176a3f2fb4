"""Texts about the small world: what the miniature reads before it sees any pair.

Each text states one fact or two, and answers one question about them or two: "Eva is by the river.
Is it true that Eva is indoors? No. Eva is by the river." In half of the texts a question is only
the statement, on a line of its own. Most are English; the other languages' shares fall off roughly
as in the web pages that GPT-2 has read, except that Spanish and German have more.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from data.miniature.language import language
from data.miniature.world import FORMS, LABELS, draw_hypothesis, reason_for
from gpt2.loss import IGNORED

ANSWERS = dict(zip(LABELS, ("yes", "no", "maybe"), strict=True))
SHARES = {  # of the texts, in per cent; the rest is English
    **{"es": 6, "fr": 5, "de": 4, "tr": 1.5, "vi": 1.5, "sw": 1, "ru": 1, "bg": 0.5},
    **{"el": 0.3, "zh": 0.3, "ar": 0.3},
}
LATER_SHARES = SHARES | {"es": 20, "de": 16, "fr": 8, "tr": 2, "vi": 2, "sw": 1.5, "ru": 1.5}
HEADERS = (  # in front of a line, in some texts
    *("Answer", "Assertion", "Case", "Check", "Claim", "Context", "Decision", "Fact", "Given"),
    *("Guess", "Hypothesis", "Judgement", "Label", "Line", "Note", "Passage", "Premise"),
    *("Question", "Reply", "Result", "Scene", "Sentence", "Statement", "Story", "Test", "Text"),
    "Verdict",
)
NUMBERED = 0.25  # of the texts with headers
ALL_COUNT = 8  # in one text of so many every token counts in the loss, in the others the answers


@dataclass(frozen=True)
class Part:
    """A piece of a text: facts, a question, or an answer."""

    text: str
    is_answer: bool = False


def make_texts(count: int, seed: int = 0, shares: dict = SHARES, **how) -> Iterator[list[Part]]:
    """Yield random texts in parts; `how` are arguments of `make_text`."""
    rng = random.Random(f"miniature texts, {seed}")
    codes, weights = ["en", *shares], [100 - sum(shares.values()), *shares.values()]
    for code in rng.choices(codes, weights, k=count):
        yield make_text(rng, code, **how)


def make_text(
    rng: random.Random, code: str, forms=FORMS, one_fact=0.6, lines=0.5, most=2, headed=0.0
) -> list[Part]:
    """Return one text: with the share `one_fact` a fact and a question, else two facts and up to
    `most` questions; with the share `lines` each on a line of its own, and of those with the share
    `headed` each after a random header.

    Some of those have numbers for answers, as in a quiz with numbered options. Which number means
    what differs from quiz to quiz, so a reader learns only that an answer can be a number.
    """
    lang, form = language(code), rng.choice(forms)
    facts, count = form.premise(rng), rng.randint(1, most)
    if rng.random() < one_fact:
        facts, count = facts[:1], 1
    rng.shuffle(facts)
    in_lines = rng.random() < lines
    is_headed = in_lines and headed and rng.random() < headed
    is_numbered = is_headed and rng.random() < NUMBERED
    if is_headed:
        text, question, answer = (f"{rng.choice(HEADERS)}:" for _ in range(3))
        before = f"{text} ", f"\n{question} ", f"\n{answer}", " "
    else:
        space = "\n" if in_lines else lang.join(["", ""])
        before = "", space, "", space
    parts = [Part(before[0] + lang.join([lang.say(fact) for fact in facts]))]
    while count:
        label = rng.choice(LABELS)
        statement = draw_hypothesis(rng, form, facts, label)
        if statement is None:
            continue
        question = lang.say(statement) if in_lines else lang.ask(statement)
        answer = [lang.sentences[ANSWERS[label]]]
        if is_numbered:
            before = *before[:3], rng.choice(["", " "])  # "Answer:3" or "Answer: 3"
            answer = [str(rng.randrange(10))]
        if label != "neutral" and not in_lines:
            answer.append(lang.say(reason_for(facts, statement)))
        parts.append(Part(before[1] + question + before[2]))
        parts.append(Part(before[3] + lang.join(answer), is_answer=True))
        count -= 1
    return parts


class QuestionTexts(Dataset):
    """Texts as token ids, with the labels that count in the loss: the answers'.

    What facts and questions say is chance, so their tokens would mostly add noise; in one text of
    ALL_COUNT they count as well. Item i is a dict of `input_ids`, `attention_mask` and `labels`.
    """

    def __init__(self, texts: Iterable[list[Part]], tokenizer):
        texts = list(texts)
        pieces = [part.text for parts in texts for part in parts]
        ids = iter(tokenizer(pieces)["input_ids"])
        end = [tokenizer.eos_token_id]
        self.ids, self.labels = [], []
        for number, parts in enumerate(texts):
            encoded = [(next(ids), part.is_answer or number % ALL_COUNT == 0) for part in parts]
            encoded.append((end, True))
            row = [i for piece, _ in encoded for i in piece]
            counted = [c for piece, c in encoded for _ in piece]
            self.ids.append(torch.tensor(row, dtype=torch.int32))
            self.labels.append(self.ids[-1].where(torch.tensor(counted), IGNORED))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids, labels = self.ids[index].long(), self.labels[index].long()
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    @property
    def lengths(self) -> list[int]:
        """Every text's length in tokens."""
        return [len(ids) for ids in self.ids]

    @staticmethod
    def collate_fn(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, (B, T), padded on the right."""
        padding = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
        return {
            name: pad_sequence([item[name] for item in items], True, value)
            for name, value in padding.items()
        }
