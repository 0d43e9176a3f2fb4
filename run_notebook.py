"""Execute a notebook top to bottom; leave the executed notebook and an HTML report in out/.

    python run_notebook.py [default_final_project.ipynb] [--in-place] [--out FOLDER]

The environment variables of `experiments.profiles.choose_profile` select weights and data.
"""

import argparse
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from utils import atomic_write

ROOT = Path(__file__).parent
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
    clean(notebook)
    executed, report = args.out / source.name, args.out / f"{source.stem}.html"
    write(executed, nbformat.writes(notebook) + "\n")
    write(report, HTMLExporter().from_notebook_node(notebook)[0])
    if failure:
        print(failure)
        print(f"stopped at this error; the cells before it are in {executed} and {report}")
        return 1
    if args.in_place:
        write(source, nbformat.writes(notebook) + "\n")
    print(f"notebook {executed}\nreport   {report}")
    return 0


def execute(notebook) -> None:
    """Run every cell; print after how many seconds each section starts."""
    resources, started = {"metadata": {"path": str(ROOT)}}, time.perf_counter()
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=resources)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
            elif cell.source.startswith("#"):
                heading = cell.source.splitlines()[0].lstrip("# ")
                print(f"{time.perf_counter() - started:6.1f} s  {heading}", flush=True)
    print(f"{time.perf_counter() - started:6.1f} s  end")


def clean(notebook) -> None:
    """Remove what differs between runs or machines, and all but the last state of a bar."""
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs, streams = [], {}
        for output in cell.get("outputs", []):
            if output.output_type != "stream":
                outputs.append(output)
                for kind in {"text/html", "text/plain"} & output.get("data", {}).keys():
                    # pandas gives a styled table a random name, Python an object its address
                    text = re.sub(r"\bT_[0-9a-f]{5}(?=\W|_)", f"T_{cell.id}", output.data[kind])
                    output.data[kind] = re.sub(r" at 0x[0-9a-f]+", "", text)
            elif output.name in streams:
                streams[output.name].text += output.text
            else:
                outputs.append(streams.setdefault(output.name, output))
        for output in streams.values():
            lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n")]
            output.text = LIBRARY_WARNING.sub("", "\n".join(lines))
        if cell.cell_type == "code":
            cell.outputs = [output for output in outputs if output.get("text") != ""]


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
