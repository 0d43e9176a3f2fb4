"""Write autograder.zip for Gradescope: this project, and the two scripts that it starts."""

import zipfile
from pathlib import Path

import tyro

from grading.edition.release import ROOT, SHIPPED, files_in
from utils import atomic_write

SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3-venv
python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet uv
# The image's own Python may be too old: then uv fetches another one.
export UV_PYTHON_INSTALL_DIR=/opt/python
/opt/uv/bin/uv venv --quiet --seed --python '>=3.11,<3.14' /opt/grader
cd /autograder/source
install="/opt/grader/bin/pip install --quiet -c constraints.txt"
$install --no-deps torch --index-url https://download.pytorch.org/whl/cpu  # without CUDA
$install -r requirements.txt nbformat ruff
/opt/grader/bin/python -c "from gpt2.tokenizer import install_tokenizer_files as f; f()"
"""
RUN = """#!/usr/bin/env bash
umask 077
chmod -R go= /autograder/source  # the solutions
cd /autograder/source
/opt/grader/bin/python -m grading grade /autograder/submission --out /tmp/grades \\
  --without-sandbox --user nobody {options}
mkdir -p /autograder/results
cp /tmp/grades/*/results.json /autograder/results/results.json ||
  echo '{{"score": 0, "output": "The autograder failed; ask your instructor, who sees why."}}' \\
  > /autograder/results/results.json
"""


def gradescope(out: tyro.conf.Positional[Path], options: str = "") -> None:
    """Write the autograder.zip that Gradescope takes.

    It holds the solutions, as every autograder does. Gradescope's container allows no sandbox in
    it, so a submission runs as the user nobody, who can neither read them nor write results.

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
