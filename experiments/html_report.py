"""The report: a notebook as one HTML page that is readable without a network."""

from pathlib import Path

import math_core
from jinja2 import pass_context
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

MATHML = math_core.LatexToMathML(continue_on_error=True, fancy_error=False)
STYLE = Path(__file__).with_suffix(".css")
HIGHLIGHTED = "main .highlight"  # before the light colors that IPython's Code brings along
PAGE = """
{%- extends 'basic/index.html.j2' -%}
{%- macro contents(headings) -%}
{%- for heading in headings if heading.level <= 3 %}
<a class="level{{ heading.level }}" href="#{{ heading.id | e }}">{{ heading.html }}</a>
{%- endfor %}
{%- endmacro -%}
{%- block body -%}
{%- set cells = self.body_loop() -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ resources.headings | map(attribute='name') | first | e }}</title>
<style>{{ resources.css }}</style>
</head>
<body>
<nav>{{ contents(resources.headings) }}</nav>
<main>
<details><summary>Contents</summary>{{ contents(resources.headings) }}</details>
{{ cells }}
</main>
</body>
</html>
{%- endblock -%}
{%- block data_png -%}
<div class="output_png"><img src="data:image/png;base64,{{ output.data['image/png'] }}"
 alt="Figure: {{ resources.headings | map(attribute='name') | list | last | e }}"></div>
{%- endblock -%}
"""


def html_report(notebook) -> str:
    """Return the notebook as an HTML page with its formulas, figures and style inside."""
    # Without kinds that need a script, such as a widget: of those the page shows the text.
    kinds = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
    exporter = Exporter(template_name="basic", raw_template=PAGE)
    exporter.config.NbConvertBase.display_data_priority = kinds
    light = HtmlFormatter(style="default").get_style_defs(HIGHLIGHTED)
    dark = HtmlFormatter(style="github-dark").get_style_defs(HIGHLIGHTED)
    dark = f"@media (prefers-color-scheme: dark) {{ {dark} }}"
    css = "\n".join([light, dark, STYLE.read_text(encoding="utf-8")])
    return exporter.from_notebook_node(notebook, {"headings": [], "css": css})[0]


class Exporter(HTMLExporter):
    """Write formulas as MathML; collect the headings for the template."""

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        """Return the HTML of a Markdown cell or output."""
        renderer = Renderer(context["resources"]["headings"])
        return MarkdownWithMath(renderer).render(source)


class Renderer(IPythonRenderer):
    """Render Markdown; add its headings to `headings`."""

    def __init__(self, headings: list[dict]):
        super().__init__(escape=False)
        self.headings = headings

    def heading(self, text: str, level: int, **attrs) -> str:
        """Return a heading with the id that links in a notebook use: spaces become hyphens."""
        name = Markup(text).striptags()
        key = name.replace(" ", "-")
        if key in {heading["id"] for heading in self.headings}:
            key += f"-{len(self.headings)}"
        self.headings.append({"level": level, "id": key, "name": name, "html": text})
        return f'<h{level} id="{escape(key)}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        return MATHML.convert_with_local_state(body, displaystyle=False)

    def block_math(self, body: str) -> str:
        formula = MATHML.convert_with_local_state(body, displaystyle=True)
        return f'<span class="formula">{formula}</span>'
