"""Tables as files: every digit in CSV, what a reader wants in Markdown and LaTeX."""

import numpy as np
import pandas as pd

from experiments.tables import export, markdown

TABLE = pd.DataFrame(
    {
        "language": ["de", "en"],
        "accuracy": [0.51234567, np.nan],
        "p corrected": [0.0004, 0.25],
        "seconds": [12.345, 7.0],
        "n": [5010, 120],
    }
).set_index("language")


def test_markdown_has_readable_cells():
    assert markdown(TABLE).splitlines() == [
        "| language | accuracy | p corrected | seconds | n |",
        "| --- | --- | --- | --- | --- |",
        "| de | 0.512 | <0.001 | 12.3 | 5010 |",
        "| en |  | 0.250 | 7.0 | 120 |",
    ]


def test_a_table_is_exported_as_csv_markdown_and_latex(tmp_path):
    export(TABLE, tmp_path, "results")
    csv, md, tex = (tmp_path / f"results.{suffix}" for suffix in ("csv", "md", "tex"))
    assert pd.read_csv(csv, index_col=0).equals(TABLE)
    assert md.read_text(encoding="utf-8") == f"{markdown(TABLE)}\n"
    latex = tex.read_text(encoding="utf-8")
    assert "\\toprule" in latex and "0.512" in latex and "\\label{tab:results}" in latex


def test_names_with_dots_are_tables_of_their_own(tmp_path):
    for name in ("lr 0.01", "lr 0.001"):
        export(TABLE, tmp_path, name)
    assert len(list(tmp_path.iterdir())) == 6 and (tmp_path / "lr 0.001.csv").is_file()
