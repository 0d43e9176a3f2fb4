"""Execute a notebook top to bottom; leave the executed notebook and an HTML report in out/.

    python run_notebook.py [default_final_project.ipynb] [--in-place] [--out FOLDER]

Prints a line for each group of cells (a heading and what follows it) as it goes. The profile
comes from GPT2_PROFILE, as in the notebook itself.
"""

import argparse
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from utils import atomic_write

ROOT = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebook", nargs="?", default="default_final_project.ipynb")
    parser.add_argument("--in-place", action="store_true", help="also keep the outputs in the file")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="folder (default: out)")
    args = parser.parse_args()
    source = ROOT / args.notebook
    notebook = nbformat.read(source, as_version=4)
    started = time.perf_counter()
    failure = None
    try:
        execute(notebook)
    except (CellExecutionError, DeadKernelError) as error:
        failure = error
    clean(notebook)
    executed, report = args.out / source.name, args.out / f"{source.stem}.html"
    write(executed, nbformat.writes(notebook) + "\n")
    write(report, HTMLExporter().from_notebook_node(notebook)[0])
    if failure:
        print(failure)
        print(f"stopped at an error; what ran is in {executed} and {report}")
        return 1
    if args.in_place:
        write(source, nbformat.writes(notebook) + "\n")
    print(f"{time.perf_counter() - started:.0f} s in all")
    print(f"notebook {executed}")
    print(f"report   {report}")
    return 0


def execute(notebook) -> None:
    """Run every cell, and say of each group of cells how long it took."""
    client = NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    group, began = "start", time.perf_counter()
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown" and cell.source.startswith("#"):
                if index:
                    print(f"{time.perf_counter() - began:6.1f} s  {group}", flush=True)
                group, began = cell.source.splitlines()[0].lstrip("# "), time.perf_counter()
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
        print(f"{time.perf_counter() - began:6.1f} s  {group}", flush=True)


def clean(notebook) -> None:
    """Take out what differs from run to run, and all but the last state of a progress bar."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        streams = {}
        for output in list(cell.get("outputs", [])):
            if output.output_type != "stream":
                continue
            text = streams.setdefault(output.name, output)
            if text is not output:
                text.text += output.text
                cell.outputs.remove(output)
        for output in streams.values():
            lines = output.text.split("\n")
            output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
    notebook.metadata.pop("language_info", None)


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
