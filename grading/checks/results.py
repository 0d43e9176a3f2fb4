"""One check for each result of the handout, as there is one for each exercise.

    from grading.checks import results as graded
    graded.toy_curve(run, baselines)  # in a notebook: the run's claim and its check
    graded.check_claim(name, claim)   # in the grader: the same check of a notebook's claim

A claim is plain data: numbers, names, the run's folder and the profile's note. The grader reads
claims from untrusted notebooks, so a check accepts any JSON value and names what is wrong with it.
It uses nothing of the package whose results it checks.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean

from grading.checks.findings import Findings, Report, run
from grading.checks.shapes import misfit, short

MIME = "application/vnd.gpt2-course+json"  # of a result, as a cell shows it to programs
LANGUAGES = "en ar bg de el es fr hi ru sw th tr ur vi zh".split()  # noqa: SIM905
PAIRS = {  # by what a note says of the data
    "dev": {"embedded NLI set": 60, "miniature world": 300, "": 2490},
    "test": {"embedded NLI set": 120, "miniature world": 1800, "": 5010},
}
ROW = {"language": str, "accuracy": float, "low": float, "high": float, "n": int}
SETTINGS = ("English only (zero-shot)", "per language", "all together")
LIMITS = r"embedded text|(toy|miniature) model|embedded NLI set|miniature world|[\d,]+ train rows"
UNIFORM = math.log(50257)  # nats a token, of a model that knows nothing
CHANCE = 1 / 3
LEAST = 8  # times less than the unigram entropy is no loss (see _toy_curve)


@dataclass(frozen=True)
class Result:
    """A claim and its check's findings; a notebook cell shows the check's report."""

    name: str
    claim: dict
    findings: Findings

    def __repr__(self) -> str:
        return str(Report([self.findings]))

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        payload = {
            "kind": "result",
            "name": self.name,
            "claim": self.claim,
            "state": self.findings.state,
            "found": [asdict(finding) for finding in self.findings.found],
        }
        report = Report([self.findings])
        return {"text/plain": str(report), "text/html": report._repr_html_(), MIME: payload}


def check_claim(name: str, claim) -> Findings:
    """Return the findings on a claim, any JSON value, of one of RESULTS."""
    function, shape = RESULTS[name]

    def check(found: Findings) -> None:
        if wrong := misfit(claim, {"note": str, **shape}, "claim"):
            found.true(*wrong, "leave the claim as the notebook's cell makes it")
        note = claim["note"]
        fits = re.fullmatch(rf"(sample run: ({LIMITS})(, ({LIMITS}))*)?", note)
        expected = "nothing, or what a profile says of a sample run"
        found.true("note", fits, repr(note)[:200], expected)
        function(found, claim)

    return run(name, check)


# ---- Claims, from what a notebook has at hand --------------------------------------------------


def toy_curve(run, baselines: dict[str, float], note: str = "") -> Result:
    """Of pretraining: the first step's loss, and each epoch's; `baselines` has the unigram's."""
    epochs, history = defaultdict(list), run.history()
    for progress in history:
        epochs[progress.epoch].append(progress.loss)
    return _checked(
        "toy curve",
        run=run.path.name,
        note=note,
        first_loss=history[0].loss,
        train_loss=[fmean(losses) for losses in epochs.values()],
        held_out_loss=run.held_out()["held_out_loss"].tolist(),
        unigram=baselines["unigram"],
    )


def dev_accuracy(run, note: str = "") -> Result:
    """Of fine-tuning on English: the best epoch's accuracy on dev, with its interval."""
    (language,) = run.settings.languages
    row = _row(language, run.evaluation("dev", language, progress=False))
    return _checked("dev accuracy", run=run.path.name, note=note, **row)


def fifteen_accuracies(evaluations: dict, run, note: str = "") -> Result:
    """Of the English model: its test accuracy in every language, with the intervals."""
    rows = [_row(language, evaluation) for language, evaluation in evaluations.items()]
    return _checked("fifteen accuracies", run=run.path.name, note=note, rows=rows)


def fertility(table, note: str = "") -> Result:
    """Of the tokenizer: its fertility in every language (from a `fertility_table`)."""
    return _checked("fertility", note=note, rows=_rows(table, "language", "fertility"))


def selection(chosen: Sequence[str], transferred, by_rule: Sequence[str], note: str = "") -> Result:
    """Of the choice of languages: it, the rule's, and what both follow from (`transfer_table`)."""
    rows = _rows(transferred, *ROW, "fertility")
    return _checked("selection", note=note, chosen=list(chosen), by_rule=list(by_rule), rows=rows)


def comparison(results, note: str = "") -> Result:
    """Of the settings: the accuracy of each in every language (from a `results_table`)."""
    return _checked("comparison", note=note, rows=_rows(results, *ROW, "setting", "seeds"))


def _checked(name: str, **claim) -> Result:
    # As JSON holds it: NumPy's numbers as Python's own, and None for what is not finite.
    text = json.dumps(claim, default=lambda number: number.item())
    claim = json.loads(text, parse_constant=lambda _: None)
    return Result(name, claim, check_claim(name, claim))


def _row(language: str, evaluation) -> dict:
    (low, high), n = evaluation.interval, len(evaluation.predictions)
    return {"language": language, "accuracy": evaluation.accuracy, "low": low, "high": high, "n": n}


def _rows(table, *columns: str) -> list[dict]:
    if "language" not in table:
        table = table.rename_axis("language").reset_index()
    return table.reindex(columns=columns).to_dict("records")  # a column that it lacks is empty


# ---- The checks ----------------------------------------------------------------------------------


def _toy_curve(found: Findings, claim: dict) -> None:
    """Check that the losses fall from a uniform guess to below the unigram entropy, and not
    further than any model can come.

    Readers, the best predictors that Shannon had (1951), need 0.6 to 1.3 bits for a letter of
    English. At 4.4 characters a token the least of it is 1.8 nats, about a quarter of the unigram
    entropy of GPT-2's tokens (6.6 to 7.5 nats). Half of that, an eighth, leaves room for a text as
    simple as the embedded one, where three epochs end at 2.4 nats and the bound is 0.8.
    """
    train, held_out = claim["train_loss"], claim["held_out_loss"]
    got = f"{len(train)} of training, {len(held_out)} held-out"
    whole, expected = len(train) == len(held_out) > 1, "one of each for two epochs or more"
    found.true("losses", whole, got, expected, "is the run finished?")
    found.true(
        "first step",
        abs(claim["first_loss"] - UNIFORM) < 0.5,
        f"{claim['first_loss']:.2f} nats a token",
        f"about ln 50257 = {UNIFORM:.2f}",
        "which probability should an untrained model give to each token? Look at the initial "
        "weights, and at which targets count",
    )
    found.true(
        "training loss",
        all(before > after > 0 for before, after in pairwise(train)),
        _numbers(train),
        "each epoch's mean below the last one's",
        "are the gradients those of this batch alone, and does a step change the weights?",
    )
    unigram = claim["unigram"]
    low = min(held_out) <= unigram / LEAST
    found.true(
        "held-out loss",
        not low and held_out[-1] < unigram < UNIFORM,
        f"{_numbers(held_out)}; unigram entropy {unigram:.2f}",
        f"above {unigram / LEAST:.2f}, and at the end below the unigram entropy, which is below "
        f"{UNIFORM:.2f}",
        "no model predicts a text so well: add up the losses of all labels, of every batch, and "
        "divide once, by their number"
        if low
        else "the unigram entropy is what a model reaches that knows only token frequencies",
    )


def _dev_accuracy(found: Findings, claim: dict) -> None:
    found.true("language", claim["language"] == "en", short(claim["language"]), "'en'")
    _figures(found, [claim], "dev", claim["note"])
    _above_chance(found, "above chance", [claim], claim["note"])


def _fifteen_accuracies(found: Findings, claim: dict) -> None:
    _fifteen_languages(found, claim["rows"])
    _figures(found, claim["rows"], "test", claim["note"])
    english = [row for row in claim["rows"] if row["language"] == "en"]
    _above_chance(found, "English above chance", english, claim["note"])


def _fertility(found: Findings, claim: dict) -> None:
    _fifteen_languages(found, claim["rows"])
    lowest = min(claim["rows"], key=lambda row: row["fertility"])
    found.true(
        "lowest fertility",
        lowest["language"] == "en" and lowest["fertility"] >= 1,
        f"{lowest['language']} {lowest['fertility']:.2f}",
        "English, and at least 1 token a word",
        "on which language was the tokenizer trained? Count the tokens of one pair by hand",
    )


def _selection(found: Findings, claim: dict) -> None:
    chosen, by_rule, rows = claim["chosen"], claim["by_rule"], claim["rows"]
    got = f"{short(chosen)}, by the rule {short(by_rule) if by_rule else 'none'}"
    expected = "different languages of XNLI other than English, one or more"
    fits = chosen and _others(chosen) and _others(by_rule)
    found.true("chosen", fits, got, expected, "it is a list of codes such as 'sw'")
    known = [row["language"] for row in rows]
    wrong, expected = _not_once(chosen, known), "one of each chosen language"
    hint = "the choice of languages needs their zero-shot accuracies"
    found.true("zero-shot accuracies", not wrong, wrong or short(known), expected, hint)
    _figures(found, rows, "test", claim["note"])
    rows = [row for row in rows if row["language"] in chosen]
    _above_chance(found, "one or more above chance", rows, claim["note"])


def _comparison(found: Findings, claim: dict) -> None:
    languages = list(dict.fromkeys(row["language"] for row in claim["rows"]))
    chosen = [lang for lang in languages if lang != "en"]
    expected = "languages of XNLI, one or more other than English"
    found.true("languages", chosen and _others(chosen), short(languages), expected)
    needed = [f"{lang}, {setting}" for lang in chosen for setting in SETTINGS]
    wrong = _not_once(needed, [f"{row['language']}, {row['setting']}" for row in claim["rows"]])
    found.true(
        "settings",
        not wrong,
        wrong or short(chosen),
        f"of each chosen language: {'; '.join(SETTINGS)}",
        "which model was evaluated on which test set? Use the settings' names as handed out",
    )
    _figures(found, claim["rows"], "test", claim["note"])


# ---- What several checks look at ---------------------------------------------------------------


def _others(languages: list[str]) -> bool:
    """Return whether these are different languages of XNLI other than English."""
    return len(set(languages)) == len(languages) and set(languages) <= set(LANGUAGES) - {"en"}


def _not_once(needed: list[str], texts: list[str]) -> str:
    """Return how often the first needed text is there that is not there once, or ""."""
    wrong = [text for text in needed if texts.count(text) != 1]
    return f"{texts.count(wrong[0])} of {wrong[0]}" if wrong else ""


def _fifteen_languages(found: Findings, rows: list[dict]) -> None:
    languages = [row["language"] for row in rows]
    wrong, expected = _not_once(LANGUAGES, languages), "each of the 15 languages of XNLI, once"
    fits = not wrong and len(languages) == len(LANGUAGES)
    found.true("languages", fits, wrong or f"{len(languages)} rows", expected)


def _figures(found: Findings, rows: list[dict], split: str, note: str) -> None:
    """Note that accuracies are shares of all pairs of the split, inside their intervals."""
    pairs = next(count for data, count in PAIRS[split].items() if data in note)

    def noted(what: str, fits, text, expected: str, hint: str) -> None:
        wrong = next((row for row in rows if not fits(row)), None)
        shown = wrong or rows[0]
        more = f" and {len(rows) - 1} more" if len(rows) > 1 and not wrong else ""
        found.true(what, not wrong, f"{shown['language']} {text(shown)}{more}", expected, hint)

    expected, hint = f"the {pairs:,} of the {split} set", "were rows left out or read twice?"
    noted("pairs", lambda row: row["n"] == pairs, lambda row: f"{row['n']:,}", expected, hint)
    hint = "is it rounded, or an interval of something else?"
    noted("accuracies", _consistent, _figure, "shares of the pairs, in their intervals", hint)


def _consistent(row: dict) -> bool:
    """Return whether so many seeds can have this accuracy; predictions say whether they have it."""
    seeds = row.get("seeds", 1)
    right = row["accuracy"] * row["n"] * seeds
    inside = 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
    return seeds > 0 and inside and abs(right - round(right)) < 1e-6


def _above_chance(found: Findings, what: str, rows: list[dict], note: str) -> None:
    """Note that one row is more accurate than guesses, where that can be expected."""
    limits = note.removeprefix("sample run: ").split(", ")
    known = {"embedded text", "miniature world"}  # which the miniature learns
    known |= {"miniature model", "600 train rows"} if "miniature world" in limits else set()
    limits = ", ".join(limit for limit in limits if limit not in known)
    best, expected = max(rows, key=lambda row: row["low"]), f"an interval above {CHANCE:.3f}"
    if limits:
        expected = f"no more: above chance is not expected of a sample run ({limits})"
    found.true(
        what,
        limits or best["low"] > CHANCE,
        f"{best['language']} {_figure(best)}",
        expected,
        "compare the dev loss with ln 3, the loss of guessing, and look at the predictions",
    )


def _figure(row: dict) -> str:
    return f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values[:4]) + (", ..." if len(values) > 4 else "")


LOSSES = {"first_loss": float, "train_loss": [float], "held_out_loss": [float], "unigram": float}
RESULTS = {  # the check of each result's claim, and the claim's shape beside its note
    "toy curve": (_toy_curve, {"run": str, **LOSSES}),
    "dev accuracy": (_dev_accuracy, {"run": str, **ROW}),
    "fifteen accuracies": (_fifteen_accuracies, {"run": str, "rows": [ROW]}),
    "fertility": (_fertility, {"rows": [{"language": str, "fertility": float}]}),
    "selection": (
        _selection,
        {"chosen": [str], "by_rule": [str], "rows": [{**ROW, "fertility": float}]},
    ),
    "comparison": (_comparison, {"rows": [{**ROW, "setting": str, "seeds": int}]}),
}
