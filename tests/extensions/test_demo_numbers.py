"""The exported page in a browser: its tokens, probabilities and attention are Python's."""

import random

import pytest
import torch

from experiments.profiles import find_data
from extensions.demo.export import LIMIT
from extensions.demo.inspection import analyze, candidates
from gpt2.evaluate import answer
from gpt2.tokenizer import encode_texts
from gpt2.xnli import LANGUAGES, XNLIDataset

pytestmark = pytest.mark.all

HARD_TEXTS = [
    "",
    " ",
    "\x00",
    "a\x00b \x00\x01\x1f\x7f",
    "  two  spaces   three\t\ttabs \n\n lines \r\n end  ",
    "\u00a0no-break\u2003em\u3000ideographic\u1680ogham\u0085next\u2028line\u2029paragraph\ufeff!",
    "zero\u200bwidth\u200d joiner\u00adsoft",
    "I'm you're he'LL they'Ve it's 's'S 'tis ''re",
    "x² ½ Ⅷ ١٢٣ ४५ 12,345.67 1e-5 ①",
    "e\u0301 n\u0303 \u0301\u0301 अ\u093e ก\u0e34 ٱ\u0670 Z\u0335\u0321\u0353",
    "👩‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 🫠",
    "\U00010348 \U0001d54f \U0002a6d6 \U000e0041 \U0010ffff \ufffe",
    "<|endoftext|> <|endoftext|>\n\n ĠĊ Â\xa0",
    "</script><script>alert('x')</script> <!-- {premise} {hypo} $& $1 \\u0041",
    "a" * 3000,
    "ab" * 1500 + " " * 1000,
    "Donaudampfschifffahrtsgesellschaft" * 30,
    "กรุงเทพมหานคร" * 40,
    "\u0e33" * 500 + "ﷺ" * 50,
    "日本語と中文、한국어。" * 20,
]


def test_the_page_is_small(exported):
    path, size, change = exported
    assert path.stat().st_size == size <= LIMIT
    assert change < 0.02  # of the examples' probabilities, by rounding


@pytest.mark.parametrize("count", [2, pytest.param(67, marks=pytest.mark.slow)])
def test_probabilities_equal_python_s_in_every_language(page, rounded, tokenizer, count):
    pairs = []
    for lang in LANGUAGES:
        rows = XNLIDataset.in_folder(find_data("miniature"), "test", lang, verbose=False)
        sample = rows.data.sample(count, random_state=0)
        pairs += sample[["premise", "hypo"]].values.tolist()
    texts = [f"Premise: {premise}\nHypothesis: {hypo}\nLabel:" for premise, hypo in pairs]
    prompts = [torch.tensor(ids) for ids in encode_texts(tokenizer, texts)]
    digits = [id for (id,) in encode_texts(tokenizer, ["0", "1", "2"])]
    expected = answer(rounded, prompts, digits)[1].exp()
    script = """async (pairs) => {
        const found = [];
        for (const [premise, hypothesis] of pairs) {
            const result = await state.backend.brief({premise, hypothesis, ablated: []});
            found.push(result.probabilities);
        }
        return found;
    }"""
    found = [
        p
        for start in range(0, len(pairs), 50)
        for p in page.evaluate(script, pairs[start : start + 50])
    ]
    assert (torch.tensor(found) - expected).abs().max() < 1e-4


def test_token_ids_equal_python_s_on_hard_text(page, tokenizer):
    texts = list(HARD_TEXTS)
    for lang in LANGUAGES:
        rows = XNLIDataset.in_folder(find_data("miniature"), "test", lang, verbose=False).data
        texts.append("\n".join([*rows["premise"][:40], *rows["hypo"][:40]]))
    rng = random.Random(0)
    alphabet = [chr(c) for c in [*range(0x250), *range(0x300, 0x370), *range(0x600, 0x700),
                                 *range(0x900, 0x980), *range(0xE00, 0xE5C), *range(0x2000, 0x2070),
                                 *range(0x1F300, 0x1F350)]]  # fmt: skip
    texts += ["".join(rng.choices(alphabet, k=200)) for _ in range(200)]
    found = page.evaluate(
        "texts => texts.map((text) => state.backend.tokenizer.encode(text))", texts
    )
    for text, ours, theirs in zip(texts, found, encode_texts(tokenizer, texts), strict=True):
        assert ours == theirs, ascii(text[:80])


def test_half_a_surrogate_pair_is_the_replacement_character(page, tokenizer):
    ids = page.evaluate("state.backend.tokenizer.encode('a\\ud800b\\udc00')")
    assert ids == encode_texts(tokenizer, ["a\ufffdb\ufffd"])[0]


def test_words_are_counted_as_python_does(page):
    found = page.evaluate("texts => texts.map(countWords)", HARD_TEXTS)
    assert found == [len(text.split()) for text in HARD_TEXTS]


def test_the_inside_equals_python_s(page, rounded, tokenizer):
    heads = [(0, 2), (2, 1)]
    premise, hypothesis = "Anna is in the kitchen. Leo is not by the river.", "Leo is indoors."
    script = """async ([premise, hypothesis, ablated]) => {
        const found = await state.backend.analyze({premise, hypothesis, ablated});
        found.attention = found.attention.map((maps) => maps.map((map) => [...map]));
        return found;
    }"""
    found = page.evaluate(script, [premise, hypothesis, ["0.2", "2.1"]])
    (ids,) = encode_texts(tokenizer, [f"Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"])
    digits = [id for (id,) in encode_texts(tokenizer, ["0", "1", "2"])]
    expected = analyze(rounded, ids, digits, heads)
    close = {"atol": 1e-4, "rtol": 1e-3}
    for name in ("probabilities", "lens"):
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(expected[name]), **close)
    maps = torch.tensor(found["attention"]).reshape(3, 4, len(ids), len(ids))
    torch.testing.assert_close(maps, torch.stack(expected["attention"]), **close)
    tokens = sum(map(len, encode_texts(tokenizer, [premise, hypothesis])))
    assert found["fertility"] == tokens / 14


def test_generation_equals_python_s(page, rounded, tokenizer):
    text, ids = "Eva is by the river. Is it true that Eva is indoors?", []
    for _ in range(6):
        request = {"text": text, "ids": ids, "ablated": []}
        found = page.evaluate("request => state.backend.next(request)", request)["candidates"]
        expected = candidates(rounded, encode_texts(tokenizer, [text])[0] + ids, 8)
        assert [c["id"] for c in found] == [id for id, _ in expected]
        probabilities = [p for _, p in expected]
        assert [c["probability"] for c in found] == pytest.approx(probabilities, abs=1e-4)
        ids.append(found[0]["id"])
