"""The model of many GPUs: its limits, and that the page in results/ is what it prints."""

import pytest

from benchmarks.scale import ASSUMED, DEVICES, SIZES, Measured, main, step
from tests import ROOT

MEASURED = Measured.load()
STEPS = {size: {devices: step(size, devices, MEASURED) for devices in DEVICES} for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
def test_more_gpus_are_faster_and_each_of_them_slower(size):
    each = [STEPS[size][devices]["tokens/s a GPU"] for devices in DEVICES]
    assert each == sorted(each, reverse=True)
    together = [STEPS[size][devices]["tokens/s"] for devices in DEVICES]
    assert together == sorted(together)
    assert STEPS[size][1]["sent, GB a step"] == 0


def test_the_speed_is_below_the_products():
    for size in SIZES:
        flop_a_token = 6 * sum(x * x for x in (SIZES[size][1],)) * 12 * SIZES[size][0]
        share = STEPS[size][1]["tokens/s"] * flop_a_token / MEASURED.product
        assert 0.5 * ASSUMED["utilisation"] < share < ASSUMED["utilisation"]


def test_the_memory_is_that_of_a_gpu_and_of_the_weights():
    memory = [STEPS[size][devices]["memory, GB"] for size in SIZES for devices in DEVICES]
    assert max(memory) < ASSUMED["memory"] / 1e9
    assert STEPS["1.5B"][64]["memory, GB"] > 16 * 1.5


def test_the_page_in_results_is_what_it_prints(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scale", "--xnli", str(ROOT / "data" / "sample")])
    main()
    printed, _, study = capsys.readouterr().out.partition("## Fine-tuning")
    page = (ROOT / "results" / "scale.md").read_text(encoding="utf-8")
    assert page.startswith(printed)
    assert study.count("|") == page.partition("## Fine-tuning")[2].count("|")
