"""Write autograder.zip for Gradescope: this project, and the two scripts that it starts."""

import zipfile
from pathlib import Path

import tyro

from grading.edition.release import ROOT, SHIPPED, files_in
from utils import atomic_write

SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3 python3-venv bubblewrap
cd /autograder/source
python3 -m venv .venv
.venv/bin/pip install --quiet -r requirements.txt nbformat ruff -c constraints.txt \\
  --extra-index-url https://download.pytorch.org/whl/cpu
.venv/bin/python -m gpt2.tokenizer
"""
RUN = """#!/usr/bin/env bash
cd /autograder/source
.venv/bin/python -m grading grade /autograder/submission --out /tmp/grades {options}
mkdir -p /autograder/results
cp /tmp/grades/*/results.json /autograder/results/results.json ||
  echo '{{"score": 0, "output": "The autograder failed; ask your instructor, who sees why."}}' \
  > /autograder/results/results.json
"""


def gradescope(out: tyro.conf.Positional[Path], options: str = "") -> None:
    """Write the autograder.zip that Gradescope takes.

    It holds the solutions, as every autograder does, so Gradescope's own container must not be
    the only thing between them and what a submission runs: see the README on the sandbox.

    Args:
        out: the file.
        options: of the command grade that it runs, such as "--rubric my.toml".
    """
    scripts = {"setup.sh": SETUP, "run_autograder": RUN.format(options=options)}
    with atomic_write(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, text in scripts.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
        for name, path in files_in(ROOT, *SHIPPED, "grading/**/*").items():
            archive.write(path, name, zipfile.ZIP_DEFLATED)
    print(f"autograder: {out}")
