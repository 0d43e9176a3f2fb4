"""Execute a notebook top to bottom; leave the executed notebook and an HTML report in out/.

    python run_notebook.py [default_final_project.ipynb] [--in-place] [--out FOLDER]

The environment variables of `experiments.profiles.choose_profile` select weights and data.
"""

import argparse
import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from experiments.files import write_text
from experiments.html_report import html_report

ROOT = Path(__file__).parent
# oneDNN's kernels are made for one shape; by default 1,024 of them are stored, half a gigabyte.
LESS_MEMORY = {"LRU_CACHE_CAPACITY": "16", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}
LESS_MEMORY |= {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # bytes; larger blocks are given back
# Their texts name places on this machine, or the time: Python's, with a line of code, and torch's.
LIBRARY_WARNING = re.compile(r"^(.*site-packages.*\n(  .*\n)?|W\d{4} .*\n)", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", default="default_final_project.ipynb")
    parser.add_argument("--in-place", action="store_true", help="save the outputs in it, too")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="default: out")
    args = parser.parse_args()
    source = ROOT / args.notebook
    notebook = nbformat.read(source, as_version=4)
    failure = None
    try:
        execute(notebook)
    except (CellExecutionError, DeadKernelError) as error:
        failure = error
        print(f"{error}\nstopped at this error; the files below have the cells before it")
    clean(notebook)
    executed, report = args.out / source.name, args.out / f"{source.stem}.html"
    write_text(executed, nbformat.writes(notebook) + "\n")
    write_text(report, html_report(notebook))
    if args.in_place and failure is None:
        write_text(source, nbformat.writes(notebook) + "\n")
    print(f"notebook {executed}\nreport   {report}")
    return 0 if failure is None else 1


def execute(notebook) -> None:
    """Run every cell; print after how many seconds each section starts."""
    started = time.perf_counter()

    def print_heading(cell, cell_index) -> None:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.splitlines()[0].lstrip("# ")
            print(f"{time.perf_counter() - started:6.1f} s  {heading}", flush=True)

    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
        record_timing=False,
        coalesce_streams=True,  # of a progress bar only the last state
        on_cell_start=print_heading,
    ).execute(env=LESS_MEMORY | os.environ)
    print(f"{time.perf_counter() - started:6.1f} s  end")


def clean(notebook) -> None:
    """Remove what differs between runs or machines."""
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = LIBRARY_WARNING.sub("", output.text)
            for kind in {"text/html", "text/plain"} & output.get("data", {}).keys():
                # pandas gives a styled table a random name, Python an object its address
                text = re.sub(r"\bT_[0-9a-f]{5}(?=\W|_)", f"T_{cell.id}", output.data[kind])
                output.data[kind] = re.sub(r" at 0x[0-9a-f]+", "", text)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]


if __name__ == "__main__":
    raise SystemExit(main())
