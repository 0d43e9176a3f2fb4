"""A page of results: text, tables and figures as README.md, each also as a file of its own."""

from pathlib import Path

import pandas as pd

from experiments.environment import machine
from experiments.files import write_text
from experiments.tables import export, markdown
from utils import atomic_write, get_device


class Page:
    """A page that grows from its title on; `save` writes it, tables and figures at once."""

    def __init__(self, folder, title: str, command: str):
        self.folder, self.parts = Path(folder), [f"# {title}", f"`{command}`"]

    def add(self, *paragraphs: str) -> None:
        """Add paragraphs of Markdown."""
        self.parts += paragraphs

    def table(self, name: str, table: pd.DataFrame, heading: str = "##") -> None:
        """Write a table (CSV, Markdown, LaTeX) and add it under its name."""
        export(table, self.folder, name)
        self.add(f"{heading} {name.replace('_', ' ').capitalize()}", markdown(table))

    def figure(self, name: str, figure) -> None:
        """Write a figure (PNG) and add it."""
        with atomic_write(self.folder / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=100)
        self.add(f"![{name}]({name}.png)")

    def save(self) -> Path:
        """Write README.md and return its path."""
        write_text(self.folder / "README.md", "\n\n".join(self.parts) + "\n")
        return self.folder / "README.md"


def measured_on() -> str:
    """Return where something was measured: processor, device, threads, versions."""
    host = machine(get_device().type)
    return (
        f"on {host['processor']} ({host['device']}, {host['threads']} threads), torch "
        f"{host['torch']}, commit {host['commit']}"
    )
