"""Tables as files: CSV with every digit, Markdown and LaTeX as a reader wants them."""

import math
from pathlib import Path

import pandas as pd

from utils import atomic_write


def markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown, index first; floats with three digits, see `readable_cells`."""
    cells = readable_cells(table)
    rows = [list(cells.columns), *cells.values.tolist()]
    rows = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join(":" + "-" * (width + 1) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def export(table: pd.DataFrame, folder, name: str, *, caption: str = "") -> list[Path]:
    """Write `<folder>/<name>.csv`, with every digit, and `.md` and `.tex` (booktabs, as in ACL
    papers), as `readable_cells`."""
    latex = readable_cells(table).to_latex(
        index=False, escape=True, caption=caption or None, label=f"tab:{name}", position="t"
    )
    texts = {
        "csv": table.to_csv(lineterminator="\n"),
        "md": (f"{caption}\n\n" if caption else "") + markdown(table) + "\n",
        "tex": latex,
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(Path(folder) / f"{name}.{suffix}")
        with atomic_write(paths[-1]) as path:
            path.write_text(text, encoding="utf-8", newline="\n")
    return paths


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

    names = [name or "" for name in table.index.names]
    flat = table.reset_index(names=names)
    return pd.DataFrame({str(c): [text(str(c), v) for v in flat[c].tolist()] for c in flat})
