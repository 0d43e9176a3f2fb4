"""What the notebook quotes of real data is what the files of results/ hold."""

import json

import pandas as pd

from experiments.files import kept_result
from tests import ROOT

RESULTS = ROOT / "results"


def test_quoted_accuracies_are_those_of_the_result_files():
    nli = json.loads((RESULTS / "toy_nli" / "toy_nli_cpu.json").read_text())
    test = nli["result"]["accuracy"]["test"]
    for name in ("toy model", "hypothesis only"):
        low, high = (f"{100 * test[name][end]:.1f}" for end in ("low", "high"))
        assert f"{100 * test[name]['accuracy']:.1f} % [{low}, {high}]" in kept_result("english")
    table = pd.read_csv(RESULTS / "toy_languages" / "results.csv").set_index("language")
    for lang in ("es", "de"):
        zero_shot = table[table["setting"].str.startswith("English")].loc[lang, "accuracy"]
        assert f"{100 * zero_shot:.1f} %" in kept_result("zero_shot")
    for setting in ("per language", "all together"):
        accuracy = table[table["setting"] == setting].loc["es", "accuracy"]
        assert f"{100 * accuracy:.1f} %" in kept_result("comparison")


def test_quoted_losses_and_fertility_are_those_of_the_result_files():
    curve = json.loads((RESULTS / "toy_pretraining" / "toy_curve_real_tokens.json").read_text())
    numbers = [f"{x:.2f}" for x in _numbers(curve)]
    assert "6.21" in numbers and "7.47" in numbers
    assert "6.21" in kept_result("pretraining") and "7.47" in kept_result("pretraining")
    fertility = pd.read_csv(RESULTS / "toy_languages" / "fertility.csv", index_col=0)["fertility"]
    for lang in ("en", "es", "de", "tr", "zh", "ar", "ur"):
        assert f"{lang} {fertility[lang]:.2f}" in kept_result("fertility")


def _numbers(value) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, float) else []
