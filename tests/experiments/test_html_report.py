"""The HTML report is one page that needs no network."""

import re
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from experiments.html_report import html_report
from tests import ROOT


def page(*cells) -> BeautifulSoup:
    return BeautifulSoup(html_report(new_notebook(cells=list(cells))), "html.parser")


@pytest.fixture(scope="module")
def report() -> str:
    notebook = nbformat.read(ROOT / "default_final_project.ipynb", as_version=4)
    return html_report(notebook)


def assert_offline(soup: BeautifulSoup) -> None:
    assert not soup.select("script, iframe, link")
    sources = [tag["src"] for tag in soup.select("[src]")]
    assert all(source.startswith("data:image/") for source in sources)
    styles = "".join(tag.text for tag in soup.select("style"))
    assert not re.search(r"https?:|@import|url\(", styles)


def test_the_report_of_the_notebook_is_one_small_file(report):
    assert len(report.encode()) < 10 * 2**20
    assert_offline(BeautifulSoup(report, "html.parser"))


def test_every_link_inside_the_report_has_its_target(report):
    soup = BeautifulSoup(report, "html.parser")
    ids = [tag["id"] for tag in soup.select("h1, h2, h3, h4")]
    assert len(ids) == len(set(ids)) > 10
    links = [unquote(a["href"][1:]) for a in soup.select("a[href^='#']")]
    assert set(links) <= set(ids)
    for contents in soup.select("nav, details"):
        headings = soup.select("main h1, main h2, main h3")
        assert [a.text for a in contents.select("a")] == [h.text for h in headings]


def test_formulas_of_the_notebook_become_mathml(report):
    soup = BeautifulSoup(report, "html.parser")
    assert len(soup.select("math")) > 10 and not soup.select(".math-core-error")
    for tag in soup.select("pre, code"):
        tag.decompose()
    text = "".join(cell.text for cell in soup.select(".text_cell"))
    assert "$" not in text and "\\" not in text


def test_a_formula_inside_code_stays_code():
    soup = page(new_markdown_cell("`$a$`\n\n```\n$$b$$\n```\n\n$c_1$ and\n\n$$\\frac{d}{e}$$"))
    assert soup.select_one("p code").text == "$a$" and "$$b$$" in soup.select_one("pre").text
    inline, block = soup.select("math")
    assert inline.select_one("msub").text == "c1" and block["display"] == "block"
    assert block.select_one("mfrac")


def test_a_formula_with_an_error_does_not_stop_the_report():
    soup = page(new_markdown_cell("$\\unknown{x}$ and $\\frac{$"), new_code_cell("6 * 7"))
    assert "\\unknown" in soup.text and "6" in soup.select_one("pre").text


def test_repeated_headings_and_formulas_in_headings_have_their_own_targets():
    soup = page(new_markdown_cell("# Loss: $x < 1$ & more\n\n## Check\n\n## Check"))
    ids = [tag["id"] for tag in soup.select("main h1, main h2")]
    assert len(set(ids)) == 3 and ids[1] == "Check"
    assert [a["href"] for a in soup.select("nav a")] == [f"#{key}" for key in ids]
    assert soup.title.text.startswith("Loss: ")


def test_code_and_printed_text_are_preformatted_and_figures_are_described():
    figure = new_output("display_data", {"image/png": "aWNvbg==", "text/plain": "<Figure>"})
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "100%|###| 9/9"}
    printed = new_output("stream", name="stdout", text="a  b\n<|endoftext|>\n")
    outputs = [printed, figure, new_output("display_data", widget)]
    soup = page(new_markdown_cell("## Curve"), new_code_cell("x = 1  # one", outputs=outputs))
    assert_offline(soup)
    code, text, bar = soup.select("pre")
    assert code.text.strip() == "x = 1  # one" and code.select_one("span.c1")
    assert text.text == "a  b\n<|endoftext|>\n" and bar.text == "100%|###| 9/9"
    assert soup.select_one("div.output_png img")["alt"] == "Figure: Curve"


def test_a_notebook_without_headings_or_figures_has_a_report():
    figure = new_output("display_data", {"image/png": "aWNvbg=="})
    assert page(new_code_cell("1", outputs=[figure])).select_one("img")["alt"] == "Figure: "
