"""The exported page in a browser can be used: by mouse, by keyboard, at any width."""

import threading

import pytest

from extensions.demo.server import DemoServer
from gpt2.xnli import LANGUAGES

pytestmark = pytest.mark.all

ALL_LANGUAGES = "find('languages').children.length === 15"
CHOSEN = "code => find('languages').querySelector('.card.chosen p')?.lang === code"
RESET = """() => {
    Object.assign(state, {head: [0, 0], from: "last", generated: [], promptIsOwn: false});
    state.ablated.clear();
    find("language").value = "en";
    find("example").value = "0";
    find("effect").textContent = "";
    find("languages").replaceChildren();
    document.activeElement.blur();
    choose();
}"""


@pytest.fixture
def page(page):
    """The page as it is when it was opened: tests share it, for loading takes seconds."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.mouse.move(0, 0)
    page.evaluate(RESET)
    wait_for(page, "find('effect').textContent !== ''")
    return page


def wait_for(page, condition: str, *arg) -> None:
    """Wait until a condition holds; playwright's own way needs eval, which the page forbids."""
    for _ in range(600):
        if page.evaluate(condition, *arg):
            return
        page.wait_for_timeout(50)
    raise TimeoutError(condition)


def effect(page) -> str:
    return page.locator("#effect").inner_text()


def choose(page, code: str) -> None:
    """Choose a language and wait for the page to show it."""
    page.locator("#language").select_option(code)
    wait_for(page, CHOSEN, code)


def test_a_click_on_a_head_ablates_it_and_another_restores_it(page):
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


def test_heads_are_reached_and_ablated_by_keyboard(page):
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


def test_every_control_is_reached_by_keyboard(page):
    wait_for(page, ALL_LANGUAGES)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {"language", "example", "premise", "hypothesis", "head-0-0", "from", "lines"} <= reached
    assert {"prompt", "one", "ten", "again", "use-pair", "Arabic", "Urdu"} <= reached


def test_every_control_has_a_name(page):
    wait_for(page, ALL_LANGUAGES)
    unnamed = """[...document.querySelectorAll("button, select, textarea, canvas, [role=img]")]
        .filter((e) => !e.closest("[aria-hidden=true]") && !e.getAttribute("aria-label") &&
                       !e.labels?.length && !e.textContent.trim()).map((e) => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_a_pair_is_typed(page):
    wait_for(page, ALL_LANGUAGES)
    bars = page.locator("#prediction").inner_text()
    page.locator("#hypothesis").fill("Leo is on the beach.")
    wait_for(page, "text => find('prediction').innerText !== text", bars)
    assert page.locator("#example").input_value() == ""
    assert "Leo is on the beach." in page.locator("#prompt").input_value()
    assert page.locator("#languages").inner_text() == ""
    assert page.locator("#translations").inner_text().startswith("Examples have translations")


def test_a_language_is_chosen_and_runs_in_its_direction(page):
    for code, direction in (("ar", "rtl"), ("ur", "rtl"), ("hi", "ltr")):
        choose(page, code)
        premise = page.locator("#premise")
        assert premise.input_value() == page.evaluate(f"info.examples[0].texts.{code}[0]")
        assert premise.evaluate("e => getComputedStyle(e).direction") == direction
        lines = page.locator("#tokens .sentence").evaluate_all("lines => lines.map((l) => l.dir)")
        assert lines == [direction, direction, "ltr"]
        card = page.locator(f"#languages p[lang={code}]").first
        assert card.evaluate("e => getComputedStyle(e).direction") == direction


@pytest.mark.parametrize(
    "languages", [("en", "ar", "hi", "th", "zh"), pytest.param(LANGUAGES, marks=pytest.mark.slow)]
)
def test_tokens_show_every_character(page, languages):
    script = """[...find("tokens").querySelectorAll(".sentence")].map((line) => {
        const copy = line.cloneNode(true);
        copy.querySelectorAll(".bytes").forEach((note) => note.remove());
        return copy.textContent;
    }).join("").replaceAll("\\u00b7", " ").replaceAll("\\u21b5", "\\n").replaceAll("\\u25cc", "")"""
    for code in languages:
        page.locator("#language").select_option(code)
        wait_for(page, f"{script} === prompt(pair())")


def test_the_pair_is_shown_in_all_languages(page):
    wait_for(page, ALL_LANGUAGES)
    for name in ("Arabic", "Thai", "Urdu", "Chinese"):
        assert page.locator("#languages").get_by_role("button", name=name).count() == 1
    page.locator("#languages").get_by_role("button", name="Thai").click()
    wait_for(page, CHOSEN, "th")
    assert page.locator("#language").input_value() == "th"
    assert page.evaluate("document.activeElement.textContent") == "Thai"


def test_tokens_are_appended_one_by_one(page):
    page.locator("#prompt").fill("Anna is in the kitchen. Is it true that")
    page.evaluate("new Promise((resume) => setTimeout(resume, 200))")  # it waits for typing to stop
    wait_for(page, "find('candidates').children.length === 8")
    first = page.locator("#candidates button").nth(1)
    chosen = first.locator("span").first.inner_text()
    first.click()
    wait_for(page, "find('generated').textContent !== ''")
    assert page.locator("#generated").inner_text().strip() == chosen
    page.get_by_role("button", name="Append the most probable token").click()
    wait_for(page, "state.generated.length === 2")
    page.get_by_role("button", name="Start over").click()
    wait_for(page, "find('generated').textContent === ''")


def test_a_bad_text_is_one_sentence(page):
    for text, sentence in (
        ("", "The premise is empty: type a text or choose an example."),
        (" \n\u3000", "The premise is empty: type a text or choose an example."),
        ("a" * 100_000, "The premise has 100,000 characters, but at most 2,000 are read here"),
        ("x y " * 400, "tokens, but at most 511 are read here (the model has 512 positions)"),
    ):
        page.locator("#premise").fill(text)
        wait_for(page, "find('error').textContent !== ''")
        assert sentence in page.locator("#error").inner_text()
        page.locator("#premise").fill("Anna is outdoors.")
        wait_for(page, "find('error').textContent === ''")


def test_nothing_is_wider_than_the_window(page):
    cut = """[...document.querySelectorAll("section *")].filter((e) =>
        e.getBoundingClientRect().right > e.closest("section").getBoundingClientRect().right + 1 &&
        !e.closest("#lines")).map((e) => e.outerHTML.slice(0, 80))"""
    for code in ("en", "ar", "th"):
        page.locator("#language").select_option(code)
        page.evaluate("update()")  # with all languages
        for width in (400, 1000, 1100, 1301, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            wait_for(page, "width => innerWidth === width", width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(cut) == [], (code, width)


def test_text_stands_out_in_light_and_dark(page):
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
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert min(page.evaluate(script)) >= 4.5, scheme


# ---- The server's page -------------------------------------------------------------------------


def test_the_served_page_shows_the_same(browser, page, rounded, tokenizer):
    exported_text = effect(page)
    with DemoServer(rounded, tokenizer, "miniature", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served = browser.new_page()
        errors, hosts = [], set()
        served.on("console", lambda message: errors.append(message.text))
        served.on("pageerror", lambda error: errors.append(str(error)))
        served.on("request", lambda request: hosts.add(request.url.rpartition("/")[0]))
        served.goto(server.url)
        served.evaluate("started")
        served_text = effect(served)
        served.get_by_label("Ablate layer 1, head 2").click()
        wait_for(served, "find('effect').textContent.startsWith('1 head ablated')")
        wait_for(served, ALL_LANGUAGES)
        served.close()
        server.shutdown()
        thread.join()
    assert served_text == exported_text
    assert errors == [] and hosts == {server.url}
