"""Tables as files: every digit in CSV, what a reader wants in Markdown and LaTeX."""

import numpy as np
import pandas as pd

from experiments.tables import export, markdown

TABLE = pd.DataFrame(
    {
        "language": ["de", "en|gb"],
        "accuracy": [0.51234567, np.nan],
        "p corrected": [0.0004, 0.25],
        "seconds": [12.345, 7.0],
        "n": [5010, 120],
    }
).set_index("language")


def test_markdown_has_aligned_columns_and_readable_cells():
    assert markdown(TABLE).splitlines() == [
        "| language | accuracy | p corrected | seconds | n    |",
        "|:---------|:---------|:------------|:--------|:-----|",
        "| de       | 0.512    | <0.001      | 12.3    | 5010 |",
        r"| en\|gb   |          | 0.250       | 7.0     | 120  |",
    ]


def test_a_table_is_exported_as_csv_markdown_and_latex(tmp_path):
    paths = export(TABLE, tmp_path, "results", caption="Accuracy in %")
    assert [path.name for path in paths] == ["results.csv", "results.md", "results.tex"]
    assert pd.read_csv(paths[0], index_col=0).equals(TABLE)
    text, latex = (path.read_text(encoding="utf-8") for path in paths[1:])
    assert text == f"Accuracy in %\n\n{markdown(TABLE)}\n"
    assert "\\toprule" in latex and "0.512" in latex and "\\label{tab:results}" in latex
    assert "\\caption{Accuracy in" in latex
