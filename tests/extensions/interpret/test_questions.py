"""The statistics of the questions, and the program that answers them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from experiments.evaluation import Evaluation
from experiments.files import RESULTS
from extensions.interpret import __main__ as program
from extensions.interpret.errors import confusion_shares, error_table, wrong
from extensions.interpret.languages import least_rho, rank_correlation, spearman
from extensions.interpret.study import mean_interval

RNG = np.random.default_rng(0)


def evaluation(predictions, labels):
    pairs = [str(i) for i in range(len(labels))]
    table = pd.DataFrame({"pair_id": pairs, "label": list(labels), "prediction": list(predictions)})
    return Evaluation(table)


def test_rank_correlation_is_spearmans():
    x, y = RNG.normal(size=(5, 14)), RNG.integers(4, size=(5, 14)).astype(float)
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(rank_correlation(x, y), expected)
    assert np.isnan(rank_correlation(x[:1], np.ones((1, 14)))).all()


def test_the_interval_and_p_say_what_the_points_can_bear():
    x = pd.Series(np.arange(14.0))
    strong = spearman(x, x + RNG.normal(0, 1, 14))
    assert 0.5 < strong["low"] < strong["ρ"] <= strong["high"] <= 1 and strong["p"] < 0.001
    nothing = spearman(x, pd.Series(RNG.permutation(14).astype(float)))
    assert nothing["low"] < 0 < nothing["high"] and nothing["p"] > 0.05
    assert least_rho(14) == pytest.approx(0.538, abs=0.02)  # tables of Spearman's ρ
    assert least_rho(14, 0.01) > least_rho(14) > least_rho(40)


def test_intervals_of_groups_are_wider_than_those_of_their_rows():
    groups = np.repeat(np.arange(40), 3)
    values = RNG.normal(size=40)[groups]
    mean, low, high = mean_interval(values, groups)
    _, narrow, wide = mean_interval(values, range(120))
    assert low < mean < high and mean == pytest.approx(values.mean())
    assert high - low > 1.4 * (wide - narrow)
    assert mean_interval([1.0, 1.0], [0, 1]) == (1, 1, 1)


def test_errors_are_counted_by_group_over_all_evaluations():
    labels = "001122"
    first, second = evaluation("001120", labels), evaluation("011120", labels)
    assert wrong([first, second]).tolist() == [0, 0.5, 0, 0, 0, 1]
    groups = {"start": np.arange(6) < 3, "end": np.arange(6) >= 3}
    table = error_table([first, second], groups).set_index("group")
    assert table["value"].round(3).tolist() == [0.167, 0.333]
    assert table["pairs"].tolist() == [3, 3]
    shares = confusion_shares([first, second])
    assert shares.loc["entailment"].tolist() == [0.75, 0.25, 0, 0]
    assert shares.loc["neutral"].tolist() == [0.5, 0, 0.5, 0]


def test_an_unknown_question_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown question 'hats'; choose from heads, languages"):
        program.main(tmp_path, questions=["hats"])


@pytest.mark.slow
def test_the_program_writes_a_page_for_its_questions(tmp_path, capsys):
    program.main(tmp_path, tmp_path / "runs", pairs=30, questions=["heads", "phenomena"])
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Which heads compare names and places" in page and "![phenomena]" in page
    assert "A changed name reaches the answer mostly through layer" in capsys.readouterr().out
    heads = pd.read_csv(tmp_path / "heads.csv", index_col=[0, 1])
    assert len(heads) == 12 and heads["name effect"].max() > 0.1
    assert (heads["name effect low"] <= heads["name effect high"]).all()
    tests = pd.read_csv(tmp_path / "heads_tests.csv")
    assert (tests["p corrected"] >= tests["p"]).all()


def test_every_question_has_its_result_in_the_repository():
    page = (RESULTS / "interpret" / "README.md").read_text(encoding="utf-8")
    assert "python -m extensions.interpret" in page and "minutes" in page
    for name in program.QUESTIONS:
        assert (RESULTS / "interpret" / f"{name}.png").is_file()
        assert (RESULTS / "interpret" / f"{name}.csv").is_file()
        assert f"![{name}]({name}.png)" in page
