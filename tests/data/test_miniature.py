"""The small world in fifteen languages, its NLI pairs, and the model that has read about it."""

import os
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import product

import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.miniature import model_folder, nli_folder, phenomena, world
from data.miniature.files import PACKED, sentences
from data.miniature.language import CODES, language
from data.miniature.pairs import TRIPLES, make_pairs
from data.miniature.text import QuestionTexts, make_texts
from data.miniature.world import FORMS, LABELS, Fact, draw_hypothesis, label_of
from gpt2 import GPT2Model, XNLIDataset
from gpt2.xnli import LANGUAGES
from tests import ROOT

KITCHEN, GARDEN = Fact("Anna", "kitchen"), Fact("Anna", "garden")
SCRIPTS = {"ar": "ARABIC", "ur": "ARABIC", "bg": "CYRILLIC", "ru": "CYRILLIC", "el": "GREEK"}
SCRIPTS |= {"hi": "DEVANAGARI", "th": "THAI", "zh": "CJK"}


def everything_said(code):
    """Every phrase of a language at least once, as sentences and as questions."""
    lang = language(code)
    subjects = [*world.NAMES, *world.NOUNS, *world.KINDS]
    facts = [Fact(s, p, holds=h) for s, p, h in product(subjects, lang.places, (True, False))]
    facts += [
        Fact(s, activity=a, holds=h) for s, a, h in product(subjects, lang.activities, (0, 1))
    ]
    facts += [Fact(s, "bridge", time=t) for s, t in product(world.NAMES, lang.times)]
    numbers = product(lang.things, world.NUMBERS)
    facts += [Fact(thing, place, number=n) for thing, n in numbers for place in world.PLACES]
    return [said for fact in facts for said in (lang.say(fact), lang.ask(fact))]


@pytest.mark.parametrize(
    ("premise", "hypothesis", "label"),
    [
        (KITCHEN, KITCHEN, "entailment"),
        (KITCHEN, GARDEN, "contradictory"),
        (KITCHEN, Fact("David", "kitchen"), "neutral"),
        (KITCHEN, Fact("Anna", "garden", holds=False), "entailment"),
        (KITCHEN, Fact("Anna", "kitchen", holds=False), "contradictory"),
        (Fact("Anna", "kitchen", holds=False), GARDEN, "neutral"),
        (Fact("Anna", "kitchen", holds=False), KITCHEN, "contradictory"),
        (KITCHEN, Fact("Anna", "indoors"), "entailment"),
        (KITCHEN, Fact("Anna", "outdoors"), "contradictory"),
        (Fact("dog", "river"), Fact("animal", "river"), "entailment"),
        (Fact("dog", "river"), Fact("animal", "library"), "contradictory"),
        (Fact("dog", "river"), Fact("musician", "river"), "neutral"),
        (Fact("pianist", "river"), Fact("musician", "river"), "entailment"),
        (Fact("Leo", activity="read"), Fact("Leo", activity="read"), "entailment"),
        (Fact("Leo", activity="read"), Fact("Leo", activity="sing"), "neutral"),
        (Fact("Leo", activity="read"), Fact("Leo", activity="read", holds=False), "contradictory"),
        (Fact("Leo", activity="read", holds=False), Fact("Leo", activity="read"), "contradictory"),
        (Fact("Leo", activity="read"), Fact("Leo", "kitchen"), "neutral"),
        (Fact("cup", "kitchen", number=2), Fact("cup", "kitchen", number=3), "contradictory"),
        (Fact("cup", "kitchen", number=2), Fact("cup", "kitchen", number=2), "entailment"),
        (Fact("cup", "kitchen", number=2), Fact("book", "kitchen", number=2), "neutral"),
        (Fact("cup", "kitchen", number=2), Fact("cup", "garden", number=2), "neutral"),
        (Fact("Eva", "garden", time="noon"), Fact("Eva", "garden", time="night"), "neutral"),
        (Fact("Eva", "river", time="noon"), Fact("Eva", "bridge", time="noon"), "contradictory"),
    ],
)  # fmt: skip
def test_the_label_follows_from_premise_and_hypothesis(premise, hypothesis, label):
    other = Fact("teacher", "museum")
    assert label_of([premise], hypothesis) == label
    assert label_of([other, premise], hypothesis) == label_of([premise, other], hypothesis) == label


@pytest.mark.parametrize("code", CODES)
def test_every_fact_has_a_sentence_of_its_own(code):
    said = everything_said(code)
    assert len(said) == len(set(said))


@pytest.mark.parametrize("code", CODES)
def test_sentences_are_in_one_script_and_well_spaced(code):
    script = SCRIPTS.get(code, "LATIN")
    for sentence in everything_said(code):
        letters = [c for c in sentence if unicodedata.category(c)[0] == "L"]
        assert all(unicodedata.name(c).startswith(script) for c in letters), sentence
        assert sentence == unicodedata.normalize("NFC", sentence)
        assert not re.search(r"  |^ | $|\{|\}| [.,]", sentence), sentence
        first = letters[0]
        assert first == first.upper(), sentence


def test_the_languages_are_those_of_xnli():
    assert set(CODES) == set(LANGUAGES)


@pytest.mark.parametrize("split", TRIPLES)
def test_every_form_has_every_label_equally_often(split):
    pairs = make_pairs(split)
    assert len(pairs) == 3 * TRIPLES[split]
    for start in range(0, len(pairs), 3):
        triple = pairs[start : start + 3]
        assert len({pair.premise for pair in triple}) == 1
        assert sorted(pair.label for pair in triple) == sorted(LABELS)
    for pair in pairs:
        assert label_of(pair.premise, pair.hypothesis) == pair.label


def test_the_hypothesis_alone_says_nothing():
    def read(split):
        pairs = make_pairs(split)
        return [sentences(pair, "en")[1] for pair in pairs], [pair.label for pair in pairs]

    counts = CountVectorizer(ngram_range=(1, 3))
    (texts, labels), (test_texts, test_labels) = read("train"), read("test")
    model = LogisticRegression(max_iter=1000).fit(counts.fit_transform(texts), labels)
    assert model.score(counts.transform(test_texts), test_labels) <= 0.38


def test_no_test_premise_says_what_a_training_pair_says():
    facts = {split: {f for pair in make_pairs(split) for f in pair.premise} for split in TRIPLES}
    assert not facts["train"] & (facts["test"] | facts["dev"])
    names = {split: {fact.subject for fact in facts[split]} for split in TRIPLES}
    assert not names["train"] & set(world.NEW_NAMES)
    assert set(world.NEW_NAMES) <= names["test"]


def test_the_files_have_the_same_pairs_in_every_language(tokenizer):
    folder = nli_folder()
    for split, triples in TRIPLES.items():
        sets = [
            XNLIDataset.in_folder(folder, split, lang, tokenizer=tokenizer, verbose=False)
            for lang in ("en", "sw", "zh")
        ]
        assert {len(rows) for rows in sets} == {3 * triples}
        assert sets[0].labels == sets[1].labels == sets[2].labels
        assert not any(rows.skipped or rows.num_truncated for rows in sets)


def test_each_test_pair_has_a_phenomenon():
    counts = Counter(phenomena("test").values())
    assert set(counts) == {"names", *(form.phenomenon for form in FORMS)}
    assert sum(counts.values()) == 3 * TRIPLES["test"]


def test_only_answers_count_in_most_texts(tokenizer):
    texts = list(make_texts(40, seed=3, shares={}))
    encoded = QuestionTexts(texts, tokenizer)
    for number, parts in enumerate(texts):
        item = encoded[number]
        assert (
            tokenizer.decode(item["input_ids"]) == "".join(p.text for p in parts) + "<|endoftext|>"
        )
        counted = tokenizer.decode(item["labels"][item["labels"] >= 0])
        answers = "".join(p.text for p in parts if p.is_answer or number % 8 == 0)
        assert counted == answers + "<|endoftext|>"


def test_the_model_is_small_and_loads_in_transformers(tokenizer):
    assert sum(file.stat().st_size for file in PACKED.iterdir()) < 5_000_000
    folder = model_folder()
    ids = torch.tensor([tokenizer("Anna is in the kitchen. It is true")["input_ids"]])
    ours, theirs = GPT2Model.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    ours.eval()
    logits = ours.hidden_state_to_token(ours(ids)["last_hidden_state"])
    torch.testing.assert_close(logits, theirs.eval()(ids).logits, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(folder)("Anna")["input_ids"] == [31160]


@torch.no_grad()
def test_the_model_answers_new_questions(tokenizer):
    model, rng, lang = (
        GPT2Model.from_pretrained(model_folder()).eval(),
        random.Random(2),
        language("en"),
    )
    verdicts = {label: tokenizer(f" {word}")["input_ids"][0]
                for label, word in zip(LABELS, ("Yes", "No", "Maybe"), strict=True)}  # fmt: skip
    right = 0
    for number in range(300):
        form, label = FORMS[number % len(FORMS)], rng.choice(LABELS)
        premise = form.premise(rng)
        question = draw_hypothesis(rng, form, premise, label)
        text = " ".join([*map(lang.say, premise), lang.ask(question)])
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        logits = model.hidden_state_to_token(model(ids)["last_token"][0])
        right += logits.argmax().item() == verdicts[label]
    assert right / 300 >= 0.9


@pytest.mark.slow
def test_the_documented_command_gives_the_documented_losses():
    command = [sys.executable, "-m", "data.miniature.pretrain", "--threads", "1"]
    environment = {**os.environ, "GPT2_FAST": "0"}
    done = subprocess.run(
        [*command, "--steps", "200"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    losses = [float(loss) for loss in re.findall(r"step \d+, .*: loss (\S+)", done.stdout)]
    assert losses == pytest.approx([0.546, 0.456], abs=0.03), done.stderr
