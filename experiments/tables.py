"""Tables as files: CSV with every digit, Markdown and LaTeX as a reader wants them."""

import math
from pathlib import Path

import pandas as pd

from experiments.files import write_text


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown, index first; cells as in `readable_cells`."""
    cells = readable_cells(table)
    rows = [list(cells), ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def export(table: pd.DataFrame, folder, name: str) -> None:
    """Write `<folder>/<name>.csv`, with every digit, and `.md` and `.tex` (booktabs, as in ACL
    papers), as `readable_cells`."""
    latex = {"index": False, "escape": True, "label": f"tab:{name}", "position": "t"}
    write_text(Path(folder, f"{name}.csv"), table.to_csv(lineterminator="\n"))
    write_text(Path(folder, f"{name}.md"), markdown(table) + "\n")
    write_text(Path(folder, f"{name}.tex"), readable_cells(table).to_latex(**latex))


def readable_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return every cell, those of the index too, as text.

    Floats have three digits (seconds one), missing ones are empty, and a p-value below 0.001 is
    "<0.001".
    """

    def text(column: str, value) -> str:
        if not isinstance(value, float):
            return str(value)
        if math.isnan(value):
            return ""
        if column.split(" ")[0] == "p" and value < 0.001:
            return "<0.001"
        return f"{value:.1f}" if column == "seconds" else f"{value:.3f}"

    flat = table.reset_index(names=[name or "" for name in table.index.names])
    return pd.DataFrame({str(c): [text(str(c), v) for v in flat[c].tolist()] for c in flat})
