"""The benchmark program runs through, its ratios are what they say, README has its table."""

import json
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import report
from benchmarks.__main__ import NAMES, main
from benchmarks.contest import Contest, Timed, hold
from benchmarks.cuda import contests as gpu_contests
from benchmarks.options import Options
from config import GPT2Config
from experiments.plan import forward_flop
from gpt2.model import GPT2Model
from tests import ROOT, few_pairs

CEILINGS = {"float32": 1e9, "bf16": 2e9, "copy": 1e9}


def test_turns_alternate_and_ratios_are_medians_turn_by_turn():
    calls = []

    def way(name, seconds):
        def call(turn):
            calls.append((turn, name))
            return Timed(seconds[turn], name.upper())

        return call

    contest = Contest(
        "work",
        "pairs",
        10,
        {"ours": way("ours", [1.0, 2.0, 4.0]), "peer": way("peer", [2.0, 8.0, 12.0])},
        compare=[("ours", "peer")],
        rates=["ours"],
        flop=1e9,
        traffic={"peer": 4e9},
        agree=lambda returned: {"said": "".join(returned.values())},
        warm=False,
    )
    result = hold(contest, 3, CEILINGS)
    assert calls == [(turn, name) for turn in range(3) for name in ("ours", "peer")]
    assert result["ways"]["ours"] == {"seconds": 2.0, "per_second": 5.0, "of_ceiling": 0.5}
    assert result["ways"]["peer"]["of_copy"] == 0.5
    (ratio,) = result["ratios"]
    assert (ratio["times_as_fast"], ratio["lowest"], ratio["highest"]) == (3.0, 2.0, 4.0)
    assert result["agreement"] == {"said": "OURSPEER"}
    table = report.table({"cpu": {"work": result}, "cuda": {}})
    assert "| cpu | work | ours: 3.00× peer (2.00 to 4.00, 3 turns) |" in table
    assert "| cpu | work | ours: 5 pairs/s, 50% of the best product |" in table
    assert "| cuda | 15 test sets | not measured |" in table


def test_a_way_is_timed_by_the_clock_after_a_warm_up():
    turns = []
    contest = Contest("w", "x", 1, {"a": lambda turn: (turns.append(turn), time.sleep(0.05))})
    assert 0.05 <= hold(contest, 2, CEILINGS)["ways"]["a"]["seconds"] < 0.5
    assert turns == [-1, 0, 1]


def test_operations_are_those_of_the_products_that_torch_counts():
    """By torch's own counter, for one text; it counts all of attention, and we its causal half."""
    config = GPT2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=50,
        pad_token_id=0,
        attn_implementation="eager",
    )
    model, length = GPT2Model(config).eval(), 20
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = model(torch.zeros(1, length, dtype=torch.long))["last_hidden_state"]
        model.hidden_state_to_token(hidden[:, -3:])
    counts = counter.get_flop_counts()["Global"]
    half = sum(n for op, n in counts.items() if "bmm" in str(op)) / 2
    assert half > 0
    assert forward_flop(config, [length], 3) == counter.get_total_flops() - half


LONG = ("quantization", "pretraining", "loading")
LONG = {name: pytest.param(name, marks=pytest.mark.slow) for name in LONG}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return few_pairs(tmp_path_factory.mktemp("few"))


@pytest.mark.parametrize("name", [LONG.get(name, name) for name in NAMES["cpu"]])
def test_every_benchmark_runs_through(name, few, capsys):
    main([name, "--quick", "--xnli", str(few), "--threads", str(torch.get_num_threads())])
    printed = capsys.readouterr().out
    assert "ours" in printed or "first" in printed
    assert "nan" not in printed


def test_the_gpu_benchmarks_run_through_on_a_cpu(few):
    for contest in gpu_contests(Options(quick=True, xnli=few)):
        result = hold(contest, 1, CEILINGS)
        assert report.describe(contest.name, result)
        assert result["rates"]


def test_results_are_stored_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    result = {"ways": {}, "ratios": [], "rates": [], "unit": "x", "agreement": {}}
    report.store("cpu", "a", result | {"turns": 1})
    report.store("cpu", "b", result)
    report.store("cpu", "a", result | {"turns": 2})
    saved = report.load()
    assert list(saved["cpu"]) == ["a", "b"] and saved["cuda"] == {}
    assert saved["cpu"]["a"]["turns"] == 2 and "torch" in saved["cpu"]["a"]["machine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no benchmark nothing for cpu; there are evaluation, "),
        (["cuda"], "no benchmark cuda for cpu"),
        (["--turns", "0"], "--turns must be at least 1, got 0"),
        (["--quick", "--save"], "--quick makes no figures to save"),
        (["--device", "cuda"], "torch finds no GPU here"),
    ],
)
def test_what_can_not_be_run_is_said(arguments, message, capsys):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_readme_shows_the_saved_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.table(report.load()) in readme


def test_saved_results_say_what_they_were_measured_on():
    for path in report.RESULTS.glob("*.json"):
        saved = json.loads(path.read_text(encoding="utf-8"))
        for result in saved.values() if path.stem in ("cpu", "cuda") else [saved]:
            assert {"processor", "torch", "commit"} <= result["machine"].keys(), path
