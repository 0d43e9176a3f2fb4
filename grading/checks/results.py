"""One check for each result of the handout, as there is one for each exercise.

    from grading.checks import results as graded
    graded.toy_curve(run, baselines)  # in a notebook: the run's claim and its check
    graded.check_claim(name, claim)   # in the grader: the same check of a notebook's claim

A claim is plain data: numbers, names, the run's folder and the profile's note. The grader reads
claims from untrusted notebooks, so a check accepts any JSON value and names what is wrong with it.
It uses nothing of the package whose results it checks.
"""

import math
import re
import reprlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from grading.checks.findings import MIME, Findings, Report, run

if TYPE_CHECKING:
    import pandas as pd

    from experiments.evaluation import Evaluation
    from experiments.finetuning import FinetunedRun
    from experiments.pretraining import PretrainedRun

RESULTS: dict[str, Callable[[Findings, dict], None]] = {}  # the check of each result's claim

LANGUAGES = "en ar bg de el es fr hi ru sw th tr ur vi zh".split()  # noqa: SIM905
PAIRS = {  # by what a note says of the data
    "dev": {"embedded NLI set": 60, "miniature world": 300, "": 2490},
    "test": {"embedded NLI set": 120, "miniature world": 1800, "": 5010},
}
SETTINGS = ("English only (zero-shot)", "per language", "all together")
LIMITS = r"embedded text|(toy|miniature) model|embedded NLI set|miniature world|[\d,]+ train rows"
UNIFORM = math.log(50257)  # nats a token, of a model that knows nothing
CHANCE = 1 / 3


@dataclass(frozen=True)
class Result:
    """A claim and its check's findings; a notebook cell shows the check's report."""

    name: str
    claim: dict
    findings: Findings

    @property
    def report(self) -> Report:
        return Report([self.findings])

    def __str__(self) -> str:
        return str(self.report)

    __repr__ = __str__

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        found = [asdict(finding) for finding in self.findings.found]
        payload = {"kind": "result", "name": self.name, "claim": self.claim}
        payload |= {"state": self.findings.state, "found": found}
        return {"text/plain": str(self), "text/html": self.report._repr_html_(), MIME: payload}


def check_claim(name, claim) -> Findings:
    """Return the findings on a claim; name and claim may be any JSON value."""
    if not isinstance(name, str) or name not in RESULTS:
        found = Findings(short(name))
        found.true("result", False, short(name), f"one of {', '.join(RESULTS)}")
        return found
    return run(name, lambda found: RESULTS[name](found, claim))


# ---- Claims, from what a notebook has at hand --------------------------------------------------


def toy_curve(run: "PretrainedRun", baselines: dict[str, float], note: str = "") -> Result:
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


def dev_accuracy(run: "FinetunedRun", note: str = "") -> Result:
    """Of fine-tuning on English: the best epoch's accuracy on dev, with its interval."""
    (language,) = run.settings.languages
    row = _row(language, run.evaluation("dev", language, progress=False))
    return _checked("dev accuracy", run=run.path.name, note=note, **row)


def fifteen_accuracies(
    evaluations: "dict[str, Evaluation]", run: "FinetunedRun", note: str = ""
) -> Result:
    """Of the English model: its test accuracy in every language, with the intervals."""
    rows = [_row(language, evaluation) for language, evaluation in evaluations.items()]
    return _checked("fifteen accuracies", run=run.path.name, note=note, rows=rows)


def fertility(table: "pd.DataFrame", note: str = "") -> Result:
    """Of the tokenizer: its fertility in every language (from a `fertility_table`)."""
    rows = _rows(table.rename_axis("language").reset_index(), "language", "fertility")
    return _checked("fertility", note=note, rows=rows)


def selection(
    chosen: Sequence[str], transferred: "pd.DataFrame", by_rule: Sequence[str], note: str = ""
) -> Result:
    """Of the choice of languages: it, the rule's, and what both follow from (`transfer_table`)."""
    rows = _rows(transferred.rename_axis("language").reset_index(), *ROW, "fertility")
    return _checked("selection", note=note, chosen=list(chosen), by_rule=list(by_rule), rows=rows)


def comparison(results: "pd.DataFrame", note: str = "") -> Result:
    """Of the settings: the accuracy of each in every language (from a `results_table`)."""
    return _checked("comparison", note=note, rows=_rows(results, *ROW, "setting", "seeds"))


def _checked(name: str, **claim) -> Result:
    claim = _plain(claim)
    return Result(name, claim, check_claim(name, claim))


def _row(language: str, evaluation: "Evaluation") -> dict:
    (low, high), n = evaluation.interval, len(evaluation.predictions)
    return {"language": language, "accuracy": evaluation.accuracy, "low": low, "high": high, "n": n}


def _rows(table: "pd.DataFrame", *columns: str) -> list[dict]:
    return table.reindex(columns=columns).to_dict("records")  # a column that it lacks is empty


def _plain(value):
    """The value as JSON can hold it: Python's own numbers, and None for one that is not finite."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):  # NumPy's and torch's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- What claims must look like ----------------------------------------------------------------

LONGEST, LARGEST = 1000, 1e12  # items or characters; numbers
KINDS = {
    str: ("a text", lambda v: isinstance(v, str) and len(v) <= LONGEST),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: type(v) is int and 0 <= v < LARGEST),
    float: ("a finite number", lambda v: type(v) in (int, float) and abs(v) < LARGEST),
}
ROW = {"language": str, "accuracy": float, "low": float, "high": float, "n": int}


def misfit(value, shape, where: str) -> tuple[str, bool, str, str] | None:
    """What in a value from JSON is not of a shape, as a finding that failed; None if all is.

    A shape is a type, a list of the shape that all items have, or a dictionary of the shapes of
    what must be there.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return where, False, short(value), f"an object with {', '.join(shape)}"
        if missing := [key for key in shape if key not in value]:
            return where, False, f"no {missing[0]}", f"an object with {', '.join(shape)}"
        parts = ((value[key], each, f"{where}.{key}") for key, each in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, list) or len(value) > LONGEST:
            got = f"{len(value):,} items" if isinstance(value, list) else short(value)
            return where, False, got, f"a list of at most {LONGEST:,} items"
        parts = ((each, shape[0], f"{where}[{i}]") for i, each in enumerate(value))
    else:
        expected, fits = KINDS[shape]
        return None if fits(value) else (where, False, short(value), expected)
    return next((found for part in parts if (found := misfit(*part))), None)


def short(value) -> str:
    """A value from JSON in a few characters that any terminal prints."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _result(name: str, **shape):
    """A decorator: the check of the result `name`, whose claims have this shape and a note."""
    shape = {"note": str, **shape}

    def register(check: Callable[[Findings, dict], None]):
        def checked(found: Findings, claim) -> None:
            if wrong := misfit(claim, shape, "claim"):
                found.true(*wrong, "leave the claim as the notebook's cell makes it")
                return
            note = claim["note"]
            known = re.fullmatch(rf"(sample run: ({LIMITS})(, ({LIMITS}))*)?", note)
            expected = "nothing, or what a profile says of a sample run"
            found.true("note", known, repr(note) if known else short(note), expected)
            check(found, claim)

        RESULTS[name] = checked
        return checked

    return register


# ---- The checks --------------------------------------------------------------------------------


@_result(
    "toy curve", run=str, first_loss=float, train_loss=[float], held_out_loss=[float], unigram=float
)
def _toy_curve(found: Findings, claim: dict) -> None:
    train, held_out = claim["train_loss"], claim["held_out_loss"]
    got = f"{len(train)} of training, {len(held_out)} held-out"
    whole = len(train) == len(held_out) > 1
    if not found.true(
        "losses", whole, got, "one of each for two epochs or more", "is the run finished?"
    ):
        return
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
    found.true(
        "held-out loss",
        0 < held_out[-1] < claim["unigram"] < UNIFORM,
        f"{_numbers(held_out)}; unigram entropy {claim['unigram']:.2f}",
        f"at the end below the unigram entropy, which is below {UNIFORM:.2f}",
        "the unigram entropy is what a model reaches that knows only token frequencies",
    )


@_result("dev accuracy", run=str, **ROW)
def _dev_accuracy(found: Findings, claim: dict) -> None:
    if found.true("language", claim["language"] == "en", short(claim["language"]), "'en'"):
        _figures(found, [claim], "dev", claim["note"])
        _above_chance(found, "above chance", [claim], claim["note"])


@_result("fifteen accuracies", run=str, rows=[ROW])
def _fifteen_accuracies(found: Findings, claim: dict) -> None:
    if _fifteen_languages(found, claim["rows"]):
        _figures(found, claim["rows"], "test", claim["note"])
        english = [row for row in claim["rows"] if row["language"] == "en"]
        _above_chance(found, "English above chance", english, claim["note"])


@_result("fertility", rows=[{"language": str, "fertility": float}])
def _fertility(found: Findings, claim: dict) -> None:
    if _fifteen_languages(found, claim["rows"]):
        lowest = min(claim["rows"], key=lambda row: row["fertility"])
        found.true(
            "lowest fertility",
            lowest["language"] == "en" and lowest["fertility"] >= 1,
            f"{lowest['language']} {lowest['fertility']:.2f}",
            "English, and at least 1 token a word",
            "on which language was the tokenizer trained? Count the tokens of one pair by hand",
        )


@_result("selection", chosen=[str], by_rule=[str], rows=[{**ROW, "fertility": float}])
def _selection(found: Findings, claim: dict) -> None:
    chosen, by_rule, rows = claim["chosen"], claim["by_rule"], claim["rows"]
    known = [row["language"] for row in rows]
    got = f"{short(chosen)}, by the rule {short(by_rule) if by_rule else 'none'}"
    expected = "different languages of XNLI other than English, one or more"
    fits = chosen and _others(chosen) and _others(by_rule)
    if not found.true("chosen", fits, got, expected, "it is a list of codes such as 'sw'"):
        return
    missing = [lang for lang in chosen if known.count(lang) != 1]
    got = f"{known.count(missing[0])} of {missing[0]}" if missing else short(known)
    fits = not missing and set(known) <= set(LANGUAGES)
    hint = "the choice of languages needs their zero-shot accuracies"
    if found.true("zero-shot accuracies", fits, got, "one of each chosen language", hint):
        _figures(found, rows, "test", claim["note"])
        rows = [row for row in rows if row["language"] in chosen]
        _above_chance(found, "one or more above chance", rows, claim["note"])


@_result("comparison", rows=[{**ROW, "setting": str, "seeds": int}])
def _comparison(found: Findings, claim: dict) -> None:
    there = [(row["language"], row["setting"]) for row in claim["rows"]]
    languages = list(dict(there))
    chosen = [lang for lang in languages if lang != "en"]
    expected = "languages of XNLI, one or more other than English"
    if not found.true("languages", chosen and _others(chosen), short(languages), expected):
        return
    wrong = [each for lang in chosen for s in SETTINGS if there.count(each := (lang, s)) != 1]
    found.true(
        "settings",
        not wrong,
        f"{there.count(wrong[0])} of {', '.join(wrong[0])}" if wrong else short(chosen),
        f"of each chosen language: {'; '.join(SETTINGS)}",
        "which model was evaluated on which test set? Use the settings' names as handed out",
    )
    _figures(found, claim["rows"], "test", claim["note"])


# ---- What several checks look at ---------------------------------------------------------------


def _others(languages: list[str]) -> bool:
    """Whether these are different languages of XNLI other than English."""
    return len(set(languages)) == len(languages) and set(languages) <= set(LANGUAGES) - {"en"}


def _fifteen_languages(found: Findings, rows: list[dict]) -> bool:
    languages = [row["language"] for row in rows]
    missing = [lang for lang in LANGUAGES if lang not in languages]
    got = f"{len(languages)} rows" + (f", none of {missing[0]}" if missing else "")
    fits = sorted(languages) == sorted(LANGUAGES)
    return found.true("languages", fits, got, "each of the 15 languages of XNLI, once")


def _figures(found: Findings, rows: list[dict], split: str, note: str) -> None:
    """Note whether accuracies are shares of all pairs of the split, with Wilson's intervals."""
    pairs = next(count for data, count in PAIRS[split].items() if data in note)
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    wrong = next((row for row in rows if row["n"] != pairs), None)
    shown = wrong or rows[0]
    got = f"{shown['language']} {shown['n']:,}" + ("" if wrong else more)
    expected = f"the {pairs:,} of the {split} set"
    if not found.true("pairs", not wrong, got, expected, "were rows left out or read twice?"):
        return
    wrong = next((row for row in rows if not _consistent(row)), None)
    shown = wrong or rows[0]
    found.true(
        "accuracies",
        not wrong,
        f"{shown['language']} {_figure(shown)}" + ("" if wrong else more),
        "a whole number of right answers, with Wilson's 95 % interval",
        "an accuracy is a share of the pairs: is it rounded, or an interval of something else?",
    )


def _consistent(row: dict) -> bool:
    n, share, seeds = row["n"], row["accuracy"], row.get("seeds", 1)
    right = share * n * seeds
    if not (seeds > 0 and 0 <= share <= 1 and abs(right - round(right)) < 1e-6):
        return False
    share, z = round(share * n) / n, NormalDist().inv_cdf(0.975)
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    interval = (middle - half) / scale, (middle + half) / scale
    return math.dist(interval, (row["low"], row["high"])) < 1e-6


def _above_chance(found: Findings, what: str, rows: list[dict], note: str) -> None:
    """Note whether one row is more accurate than guesses, where that can be expected."""
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
