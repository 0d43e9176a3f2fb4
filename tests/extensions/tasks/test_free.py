"""Free answers: learned with end-of-text, generated as a line, their loss the model's own."""

from dataclasses import dataclass

import pandas as pd
import pytest
import torch

from config import GPT2Config
from experiments.evaluation import Evaluation
from extensions.tasks.free import FreeDataset, FreeTask, free_answers
from gpt2.loss import IGNORED, next_token_loss
from gpt2.model import GPT2Model
from gpt2.xnli import XNLI


@dataclass(frozen=True)
class Capitals(FreeTask):
    prompt: str = "Question: What is the capital of {country}?\nAnswer:"
    max_answer: int = 12


CAPITALS = Capitals()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPT2Config(**shape, max_position_embeddings=256, initializer_range=0.2)
    return GPT2Model(config).eval()


def test_a_free_answer_ends_with_the_text_or_at_its_most_tokens(tokenizer):
    short, long = free_answers(tokenizer, XNLI.prompt, ["Paris", "a b c d e f"], most=4)
    assert short == [*tokenizer(" Paris")["input_ids"], tokenizer.eos_token_id]
    assert long == [*tokenizer(" a b c")["input_ids"], tokenizer.eos_token_id]


def capitals(split, tokenizer):
    data = pd.DataFrame(
        [
            ("France", "Paris"),
            ("the Federal Republic of Germany", "Berlin"),
            ("Peru", "Lima\nCiudad de los Reyes"),
        ],
        columns=["country", "label"],
    )
    return FreeDataset(data.assign(pair_id=["a", "b", "c"]), CAPITALS, tokenizer, split, "en")


def test_free_answers_end_with_end_of_text_and_are_the_labels(tokenizer):
    rows = capitals("train", tokenizer)
    item = rows[1]
    text = CAPITALS.prompt.format(country="the Federal Republic of Germany")
    assert tokenizer.decode(item["input_ids"]) == f"{text} Berlin<|endoftext|>"
    assert tokenizer.decode(item["labels"][item["labels"] != IGNORED]) == " Berlin<|endoftext|>"
    assert tokenizer.decode(rows.answers[2]) == " Lima<|endoftext|>"  # the first of two
    assert rows.lengths_with_answer.tolist() == [len(rows[i]["input_ids"]) for i in range(3)]


def test_free_answers_are_generated_and_their_loss_is_the_models(model, tokenizer):
    rows = capitals("test", tokenizer)
    table = CAPITALS.predict(model, tokenizer, rows, progress=False)
    assert table["label"].tolist() == ["Paris", "Berlin", "Lima\nCiudad de los Reyes"]
    for i in range(3):
        ids = torch.cat([rows.prompt(i), torch.tensor(rows.answers[i])])[None]
        logits = model.hidden_state_to_token(model(ids)["last_hidden_state"])[0, :-1]
        steps = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[-len(rows.answers[i]) :]
        assert table["loss"][i] == pytest.approx(-steps.sum().item(), rel=1e-4)
    batch = rows.collate_fn([rows.answered(i) for i in range(3)])
    total = next_token_loss(model, batch, reduction="sum").item()
    assert table["loss"].sum() == pytest.approx(total, rel=1e-4)
    assert all("\n" not in text for text in table["prediction"])


def test_free_answers_are_learned(model, tokenizer):
    rows, trained = capitals("train", tokenizer), GPT2Model(model.config)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    batch = rows.collate_fn([rows[i] for i in range(3)])
    for _ in range(150):
        next_token_loss(trained, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    table = CAPITALS.predict(trained, tokenizer, capitals("test", tokenizer), progress=False)
    assert table["prediction"].tolist() == ["Paris", "Berlin", "Lima"]
    assert round(3 * Evaluation(table, CAPITALS).score) == 2 and table["loss"].max() < 0.7


def test_a_long_field_is_cut_and_not_the_answer(tokenizer):
    data = pd.DataFrame([("very " * 200 + "far", "Paris", "a")], columns=["country", "label", "id"])
    rows = FreeDataset(
        data.rename(columns={"id": "pair_id"}), CAPITALS, tokenizer, "train", "en", max_length=80
    )
    text = tokenizer.decode(rows[0]["input_ids"])
    assert rows.num_truncated == 1 and len(rows[0]["input_ids"]) <= 80
    assert text.endswith("?\nAnswer: Paris<|endoftext|>")
