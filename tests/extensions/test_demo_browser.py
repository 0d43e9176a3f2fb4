"""The exported page in a browser: its numbers are Python's, and it can be used.

Chromium is Debian's package (apt-get install chromium), driven by playwright; it has no network.
"""

import random
import shutil

import pytest
import torch

from experiments.profiles import find_data
from extensions.demo.command import find_model
from extensions.demo.examples import used_tokens
from extensions.demo.export import LIMIT, compress, decompress, export_page
from extensions.demo.inspection import analyze, candidates
from gpt2.evaluate import answer
from gpt2.model import GPT2Model
from gpt2.tokenizer import encode_texts
from gpt2.xnli import LANGUAGES, XNLIDataset

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.all,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: see requirements-dev")

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


# ---- A page and a browser for all tests --------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return GPT2Model.from_pretrained(find_model(None, tmp_path_factory.mktemp("runs"))).cpu()


@pytest.fixture(scope="module")
def rounded(model, tokenizer):
    """The model that the page has: Python's from the same rounded weights."""
    return decompress(compress(model, used_tokens(tokenizer)), model.config)


@pytest.fixture(scope="module")
def exported(model, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return path, *export_page(model, tokenizer, "miniature", path)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, exported):
    """Open the page from its file; at the end no request and no error may have been seen."""
    contexts, requests, errors = [], [], []

    def call(width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_offline(True)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(exported[0].as_uri())
        page.evaluate("started")
        contexts.append(context)
        return page

    yield call
    for context in contexts:
        context.close()
    assert set(requests) == {exported[0].as_uri()} and len(requests) == len(contexts)
    assert errors == []


# ---- JavaScript equals Python ------------------------------------------------------------------


def test_the_page_is_small(exported):
    path, size, change = exported
    assert path.stat().st_size == size <= LIMIT
    assert change < 0.02  # of the examples' probabilities, by rounding


def test_probabilities_equal_python_s_on_a_thousand_pairs(open_page, rounded, tokenizer):
    page, pairs = open_page(), []
    for lang in LANGUAGES:
        rows = XNLIDataset.in_folder(find_data("miniature"), "test", lang, verbose=False)
        sample = rows.data.sample(67, random_state=0)
        pairs += sample[["premise", "hypo"]].values.tolist()
    assert len(pairs) > 1000
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


def test_token_ids_equal_python_s_on_hard_text(open_page, tokenizer):
    page, texts = open_page(), list(HARD_TEXTS)
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


def test_half_a_surrogate_pair_is_the_replacement_character(open_page, tokenizer):
    ids = open_page().evaluate("state.backend.tokenizer.encode('a\\ud800b\\udc00')")
    assert ids == encode_texts(tokenizer, ["a\ufffdb\ufffd"])[0]


def test_words_are_counted_as_python_does(open_page):
    page = open_page()
    for text in HARD_TEXTS:
        assert page.evaluate("text => countWords(text)", text) == len(text.split()), ascii(
            text[:80]
        )


def test_the_inside_equals_python_s(open_page, rounded, tokenizer):
    page, heads = open_page(), [(0, 2), (2, 1)]
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


def test_generation_equals_python_s(open_page, rounded, tokenizer):
    page, text, ids = open_page(), "Eva is by the river. Is it true that Eva is indoors?", []
    for _ in range(6):
        request = {"text": text, "ids": ids, "ablated": []}
        found = page.evaluate("request => state.backend.next(request)", request)["candidates"]
        expected = candidates(rounded, encode_texts(tokenizer, [text])[0] + ids, 8)
        assert [c["id"] for c in found] == [id for id, _ in expected]
        probabilities = [p for _, p in expected]
        assert [c["probability"] for c in found] == pytest.approx(probabilities, abs=1e-4)
        ids.append(found[0]["id"])


# ---- The page is used --------------------------------------------------------------------------


def wait_for(page, condition: str, *arg) -> None:
    """Wait until a condition holds; playwright's own way needs eval, which the page forbids."""
    for _ in range(600):
        if page.evaluate(condition, *arg):
            return
        page.wait_for_timeout(50)
    raise TimeoutError(condition)


def effect(page) -> str:
    return page.locator("#effect").inner_text()


def settled(page) -> None:
    """Wait for the page to have shown what was asked of it."""
    page.evaluate("new Promise((resume) => setTimeout(resume, 200))")
    page.evaluate("update()")


def test_a_click_on_a_head_ablates_it_and_another_restores_it(open_page):
    page = open_page()
    before = effect(page)
    assert before.startswith("All heads work: entailment ")
    head = page.get_by_label("Ablate layer 1, head 2")
    head.click()
    wait_for(page, "find('effect').textContent.startsWith('1 head ablated')")
    assert "→" in effect(page) and head.get_attribute("aria-pressed") == "true"
    numbers = [part.split(" → ") for part in effect(page).split(": ")[1].rstrip(".").split(", ")]
    assert any(left.split()[1] != right for left, right in numbers)
    head.click()
    wait_for(page, "find('effect').textContent.startsWith('All heads')")
    assert effect(page) == before and head.get_attribute("aria-pressed") == "false"


def test_heads_are_reached_and_ablated_by_keyboard(open_page):
    page = open_page()
    page.get_by_label("Ablate layer 0, head 0").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.locator("#head-title").inner_text() == "Layer 1, head 1"
    page.keyboard.press("Enter")
    wait_for(page, "find('effect').textContent.startsWith('1 head ablated')")
    assert page.evaluate("document.activeElement.id") == "head-1-1"
    page.keyboard.press("Tab")  # the button that restores all
    page.keyboard.press("Enter")
    wait_for(page, "find('effect').textContent.startsWith('All heads')")


def test_every_control_is_reached_by_keyboard(open_page):
    page = open_page()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {"language", "example", "premise", "hypothesis", "head-0-0", "from", "lines"} <= reached
    assert {"prompt", "one", "ten", "again", "use-pair", "Arabic", "Urdu"} <= reached


def test_every_control_has_a_name(open_page):
    page = open_page()
    unnamed = """[...document.querySelectorAll("button, select, textarea, canvas, [role=img]")]
        .filter((e) => !e.closest("[aria-hidden=true]") && !e.getAttribute("aria-label") &&
                       !e.labels?.length && !e.textContent.trim()).map((e) => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_a_pair_is_typed(open_page):
    page = open_page()
    bars = page.locator("#prediction").inner_text()
    page.locator("#hypothesis").fill("Leo is on the beach.")
    wait_for(page, "text => find('prediction').innerText !== text", bars)
    assert page.locator("#example").input_value() == ""
    assert "Leo is on the beach." in page.locator("#prompt").input_value()
    assert page.locator("#languages").inner_text() == ""
    assert page.locator("#translations").inner_text().startswith("Examples have translations")


@pytest.mark.parametrize(("code", "direction"), [("ar", "rtl"), ("ur", "rtl"), ("hi", "ltr")])
def test_a_language_is_chosen_and_runs_in_its_direction(open_page, code, direction):
    page = open_page()
    page.locator("#language").select_option(code)
    wait_for(page, "find('languages').querySelector('.card.chosen')")
    settled(page)
    premise = page.locator("#premise")
    assert premise.input_value() == page.evaluate(f"info.examples[0].texts.{code}[0]")
    assert premise.evaluate("e => getComputedStyle(e).direction") == direction
    lines = page.locator("#tokens .sentence").evaluate_all("lines => lines.map((l) => l.dir)")
    assert lines == [direction, direction, "ltr"]
    card = page.locator(f"#languages p[lang={code}]").first
    assert card.evaluate("e => getComputedStyle(e).direction") == direction


def test_tokens_show_every_character(open_page):
    page = open_page()
    for code in LANGUAGES:
        page.locator("#language").select_option(code)
        settled(page)
        script = """[...find("tokens").querySelectorAll(".sentence")].map((line) => {
            const copy = line.cloneNode(true);
            copy.querySelectorAll(".bytes").forEach((note) => note.remove());
            return copy.textContent;
        }).join("").replaceAll("\\u00b7", " ").replaceAll("\\u21b5", "\\n")
           .replaceAll("\\u25cc", "")"""
        assert page.evaluate(script) == page.evaluate("prompt(pair())")


def test_the_pair_is_shown_in_all_languages(open_page):
    page = open_page()
    wait_for(page, "find('languages').children.length === 15")
    for name in ("Arabic", "Thai", "Urdu", "Chinese"):
        assert page.locator("#languages").get_by_role("button", name=name).count() == 1
    page.locator("#languages").get_by_role("button", name="Thai").click()
    settled(page)
    assert page.locator("#language").input_value() == "th"
    assert page.evaluate("document.activeElement.textContent") == "Thai"


def test_tokens_are_appended_one_by_one(open_page):
    page = open_page()
    page.locator("#prompt").fill("Anna is in the kitchen. Is it true that")
    wait_for(page, "!state.promptIsOwn || find('candidates').children.length === 8")
    settled(page)
    first = page.locator("#candidates button").nth(1)
    chosen = first.locator("span").first.inner_text()
    first.click()
    wait_for(page, "find('generated').textContent !== ''")
    assert page.locator("#generated").inner_text().strip() == chosen
    page.get_by_role("button", name="Append the most probable token").click()
    wait_for(page, "state.generated.length === 2")
    page.get_by_role("button", name="Start over").click()
    wait_for(page, "find('generated').textContent === ''")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The premise is empty: type a text or choose an example."),
        (" \n\u3000", "The premise is empty: type a text or choose an example."),
        ("a" * 100_000, "The premise has 100,000 characters, but at most 2,000 are read here"),
        ("x y " * 400, "tokens, but at most 511 are read here (the model has 512 positions)"),
    ],
)
def test_a_bad_text_is_one_sentence(open_page, text, sentence):
    page = open_page()
    page.locator("#premise").fill(text)
    wait_for(page, "find('error').textContent !== ''")
    assert sentence in page.locator("#error").inner_text()
    page.locator("#premise").fill("Anna is outdoors.")
    wait_for(page, "find('error').textContent === ''")


@pytest.mark.parametrize("width", [400, 1000, 1100, 1301, 1600])
@pytest.mark.parametrize("code", ["en", "ar", "th"])
def test_nothing_is_wider_than_the_window(open_page, width, code):
    page = open_page(width)
    page.locator("#language").select_option(code)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll("section *")].filter((e) =>
        e.getBoundingClientRect().right > e.closest("section").getBoundingClientRect().right + 1 &&
        !e.closest("#lines")).map((e) => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(cut) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(open_page, scheme):
    page = open_page(color_scheme=scheme)
    script = """() => {
        const light = (color) => {
            const [r, g, b] = color.match(/\\d+/g).slice(0, 3).map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const page = light(getComputedStyle(document.body).backgroundColor);
        return ["body", ".note", "#heads span", "h2"].map((selector) => {
            const text = light(getComputedStyle(document.querySelector(selector)).color);
            return (Math.max(page, text) + 0.05) / (Math.min(page, text) + 0.05);
        });
    }"""
    assert min(page.evaluate(script)) >= 4.5


# ---- The server's page -------------------------------------------------------------------------


def test_the_served_page_shows_the_same(browser, open_page, rounded, tokenizer):
    import threading

    from extensions.demo.server import DemoServer

    exported_text = effect(open_page())
    with DemoServer(rounded, tokenizer, "miniature", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        page = browser.new_page()
        errors, hosts = [], set()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.rpartition("/")[0]))
        page.goto(server.url)
        page.evaluate("started")
        served_text = effect(page)
        page.get_by_label("Ablate layer 1, head 2").click()
        wait_for(page, "find('effect').textContent.startsWith('1 head ablated')")
        wait_for(page, "find('languages').children.length === 15")
        page.close()
        server.shutdown()
        thread.join()
    assert served_text == exported_text
    assert errors == [] and hosts == {server.url}
