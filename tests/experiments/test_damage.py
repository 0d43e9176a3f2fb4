"""Nothing damaged is used in silence: flip a bit of any file that was written, and use it."""

import shutil
import warnings
from dataclasses import replace
from random import Random

import pytest

from config import FINETUNE_ENGLISH
from data.miniature import model_folder, nli_folder
from experiments.finetuning import finetune
from gpt2.tokenizer import load_tokenizer
from gpt2.xnli import XNLIDataset
from tests import few_pairs
from tests.small import save_small_gpt2

QUICK = replace(FINETUNE_ENGLISH, subset=12.0, learning_rate=2e-3)
FLIPS = [1, pytest.param(60, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The arguments of a finished run, and its folder."""
    folder = tmp_path_factory.mktemp("run")
    where = {
        "weights": save_small_gpt2(folder / "weights"),
        "data": few_pairs(folder / "data"),
        "progress": False,
    }
    run = finetune(QUICK, runs=folder / "runs", **where)
    run.evaluation("test", "de", progress=False)
    return where, run.path


def all_numbers(run):
    """Return everything that a finished run shows."""
    model = run.model().cpu()
    tables = [run.evaluation(split, lang, progress=False).predictions.to_csv()
              for split, lang in (("dev", "en"), ("test", "de"))]  # fmt: skip
    result = {**run.result, "computed_by": None}
    steps = [(step.step, step.loss, step.learning_rate) for step in run.history()]
    weights = [parameter.double().sum().item() for parameter in model.parameters()]
    return result, steps, run.dev().to_csv(), tables, weights


def flip(path, random):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def test_a_lost_last_line_of_the_metrics_is_named(finished, tmp_path):
    where, path = finished
    copy = shutil.copytree(path, tmp_path / path.name)
    whole = (copy / "metrics.jsonl").read_bytes()
    (copy / "metrics.jsonl").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"metrics.jsonl: has 3 lines and not 4; delete"):
        finetune(QUICK, runs=tmp_path, **where).dev()


@pytest.mark.all
@pytest.mark.parametrize("flips", FLIPS)
def test_a_flipped_bit_of_a_run_is_refused_or_repaired(finished, tmp_path, flips):
    where, path = finished
    expected, random = all_numbers(finetune(QUICK, runs=path.parent, **where)), Random(flips)
    names = [file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()]
    names = [name for name in names if name.name != ".lock"]
    assert {"result.json", "metrics.jsonl", "test.de.csv", "model.safetensors"} <= {
        name.name for name in names
    }
    for trial in range(flips):
        for name in names:
            copy = tmp_path / f"{trial}-{name.name}" / path.name
            shutil.copytree(path, copy)
            flip(copy / name, random)
            try:
                assert all_numbers(finetune(QUICK, runs=copy.parent, **where)) == expected
            except ValueError as error:
                assert name.name in str(error) and "run again" in str(error)
            shutil.rmtree(copy.parent)


@pytest.mark.parametrize("flips", [20, pytest.param(320, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_the_token_cache_is_named_and_repaired(tmp_path, flips):
    folder, tokenizer, random = few_pairs(tmp_path), load_tokenizer("gpt2"), Random(flips)

    def load():
        settings = {"tokenizer": tokenizer, "verbose": False}
        return XNLIDataset.in_folder(folder, "test", "en", **settings)

    expected = load()
    (file,) = (folder / "XNLI-1.0" / ".xnli_cache").glob("*.safetensors")
    whole = file.read_bytes()
    for _ in range(flips):
        flip(file, random)
        with pytest.warns(UserWarning, match=r"damaged .*; it is made again"):
            again = load()
        assert again.fingerprint == expected.fingerprint
        assert again.pair_ids == expected.pair_ids and again.labels == expected.labels
        assert file.read_bytes() == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load()


def test_another_files_cache_is_not_used(tmp_path):
    folder, settings = few_pairs(tmp_path), {"tokenizer": load_tokenizer("gpt2"), "verbose": False}
    sets = [XNLIDataset.in_folder(folder, "test", lang, **settings) for lang in ("en", "de")]
    english, german = sorted((folder / "XNLI-1.0" / ".xnli_cache").glob("*.safetensors"))[::-1]
    shutil.copy(german, english)
    with pytest.warns(UserWarning, match="wrong checksum"):
        again = XNLIDataset.in_folder(folder, "test", "en", **settings)
    assert again.fingerprint == sets[0].fingerprint


@pytest.mark.parametrize(
    ("make", "flips"),
    [
        (model_folder, 2),
        pytest.param(nli_folder, 2, marks=pytest.mark.slow),
        pytest.param(model_folder, 40, marks=pytest.mark.slow),
    ],
)
def test_a_flipped_bit_of_the_miniature_is_named_and_repaired(make, flips, tmp_path, monkeypatch):
    monkeypatch.setattr("data.miniature.files.CACHE", tmp_path)
    folder, random = make(), Random(flips)
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for _ in range(flips):
        flip(random.choice(list(whole)), random)
        with pytest.warns(UserWarning, match=r"(model|nli)-\w+: damaged; it is made again"):
            assert make() == folder
        assert {path: path.read_bytes() for path in whole} == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make()
