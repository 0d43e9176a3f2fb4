"""Installing the requirements on a hosted notebook leaves its torch and its kernel alone."""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.specifiers import SpecifierSet

from tests import ROOT

# What a hosted notebook comes with, and what those releases need (of torch: without CUDA).
HOSTED = {
    "ipykernel": ("6.17.1", "ipython>=7.23.1", "jupyter-client>=6.1.12", "pyzmq>=17", "psutil"),
    "ipython": ("7.34.0", "traitlets>=4.2", "prompt-toolkit<3.1,>=2"),
    "jupyter_client": ("7.4.9", "jupyter-core>=4.9.2", "pyzmq>=23.0", "tornado>=6.2", "traitlets"),
    "notebook": ("6.5.7", "jupyter-client<8,>=5.3.4", "nbconvert>=5", "ipykernel", "tornado>=6.1"),
    "tornado": ("6.5.1",),
    "pyzmq": ("26.2.1",),
    "torch": ("2.11.0", "filelock", "setuptools<82", "sympy>=1.13.3", "jinja2", "fsspec>=0.8.5"),
    "transformers": (
        *("5.15.0", "huggingface-hub<2.0,>=1.5.0", "numpy>=1.17", "safetensors>=0.8.0"),
        *("tokenizers<=0.23.0,>=0.22.0", "regex>=2025.10.22", "tqdm>=4.60"),
    ),
    "numpy": ("2.1.3",),
    "pandas": ("2.2.3", "numpy>=1.26.0", "python-dateutil>=2.8.2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """The python of an environment where pip finds the hosted packages' metadata."""
    probe = [sys.executable, "-m", "pip", "--retries=0", "--timeout=20", "download", "--no-deps"]
    folder = tmp_path_factory.mktemp("hosted")
    if subprocess.run([*probe, "-d", folder, "einops"], capture_output=True).returncode:
        pytest.skip("the package index can't be reached")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    for name, (version, *needs) in HOSTED.items():
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {need}" for need in needs]
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "venv" / "bin" / "python"


def changes(python, folder, *requirements: str) -> dict[str, str]:
    """Return name -> version of what pip would install there. It downloads only metadata."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--dry-run", "--quiet"]
    result = subprocess.run(
        [*command, "--report", report, *requirements], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    packages = [package["metadata"] for package in json.loads(report.read_text())["install"]]
    return {normal(package["name"]): package["version"] for package in packages}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


@pytest.mark.all
def test_a_hosted_notebook_keeps_its_own_packages(hosted, tmp_path):
    installed = changes(hosted, tmp_path, "-r", str(ROOT / "requirements.txt"))
    assert installed.keys() & HOSTED.keys() == set()
    by_others = {"filelock", "jinja2", "psutil", "huggingface_hub", "tokenizers", "regex"}
    assert requirements_in("requirements.txt") - HOSTED.keys() | by_others <= installed.keys()


@pytest.mark.all
def test_a_change_of_the_hosted_packages_is_noticed(hosted, tmp_path):
    installed = changes(hosted, tmp_path, "ipykernel>=6.29", "numpy>=2.2")
    assert installed.keys() & HOSTED.keys() >= {"ipykernel", "numpy"}


def requirements_in(file: str) -> set[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    matches = (re.match(r"[\w.-]+", line) for line in lines)
    return {normal(match[0]) for match in matches if match}


def test_every_requirement_is_pinned_for_ci():
    pinned = requirements_in("constraints.txt")
    assert requirements_in("requirements.txt") | requirements_in("requirements-dev.txt") <= pinned
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert len(pins) == len(pinned)


@pytest.mark.parametrize("python", ["3.11.0", "3.11.2", "3.12.0", "3.13.0", "3.14.0"])
def test_every_pin_admits_every_supported_python(python):
    for pin in requirements_in("constraints.txt"):
        try:
            needed = metadata.metadata(pin).get("Requires-Python") or ""
        except metadata.PackageNotFoundError:
            continue  # an optional extra
        assert SpecifierSet(needed).contains(python), f"{pin} needs Python {needed}"


@pytest.mark.slow
@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_the_pins_resolve(python, tmp_path):
    if shutil.which(python) is None or subprocess.run([python, "--version"]).returncode:
        pytest.skip(f"no {python} here")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    files = ("-r", "requirements.txt", "-r", "requirements-dev.txt", "-c", "constraints.txt")
    names = [name if name[0] == "-" else str(ROOT / name) for name in files]
    installed = changes(tmp_path / "venv" / "bin" / "python", tmp_path, *names)
    assert requirements_in("requirements.txt") <= installed.keys()


@pytest.mark.parametrize(("version", "status"), [("3.10.9", 2), ("3.11.0", 0)])
def test_make_says_that_an_old_python_is_too_old(version, status, tmp_path):
    """With a python that says it is another one, make ends before it makes anything."""
    fake = tmp_path / "python"
    code = (
        f"import sys; sys.version_info = {tuple(map(int, version.split('.')))}; exec(sys.argv[1])"
    )
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n')
    fake.chmod(0o755)
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/bin/true")
    done = subprocess.run(
        ["make", ".venv/.ready", f"PYTHON={fake}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == status
    assert ("error: Python 3.11 or newer is needed" in done.stderr) == bool(status)


def test_the_kernel_is_no_requirement_of_the_package():
    kernel = {"ipykernel", "ipython", "jupyter", "jupyter_client", "notebook", "tornado", "pyzmq"}
    assert not requirements_in("requirements.txt") & kernel
