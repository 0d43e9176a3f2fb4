"""How the facts of the small world are said in each of the fifteen languages.

Every phrase stands in `languages/<code>.toml` in the form in which a sentence needs it, so nothing
is inflected here. CHECKLIST.md says what was checked in each language.
"""

import tomllib
from functools import cache
from pathlib import Path

from data.miniature.world import WOMEN, Fact

FOLDER = Path(__file__).with_name("languages")
CODES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
NO_SPACES = ("th", "zh")


class Language:
    """One language's phrases, and the sentences that they make."""

    def __init__(self, code: str):
        phrases = tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8"))
        self.code, self.name = code, phrases["language"]
        self.sentences, self.places = phrases["sentences"], phrases["places"]
        self.subjects = phrases["names"] | phrases["nouns"]
        self.activities, self.times = phrases["activities"], phrases["times"]
        self.things = phrases["things"]
        self.feminine = {*WOMEN, *phrases.get("feminine", ())}

    def say(self, fact: Fact) -> str:
        """Return the fact as a sentence with its final mark."""
        return capitalize(self._state(fact))

    def ask(self, fact: Fact) -> str:
        """Return the fact as a question."""
        statement = self._state(fact).removesuffix(self.stop)
        return capitalize(self.sentences["question"].format(q=statement))

    def _state(self, fact: Fact) -> str:
        """Return the fact as a sentence whose first letter is as inside a sentence."""
        is_feminine = fact.subject in self.feminine
        if fact.activity:
            forms = self.activities[fact.activity]
            predicate = forms[-2:][not fact.holds] if is_feminine else forms[:2][not fact.holds]
            space = "" if self.code in NO_SPACES else " "
            return self.subjects[fact.subject] + space + predicate + self.stop
        if fact.number:
            things = self.things[fact.subject][fact.number - 2]
            return self.sentences["count"].format(c=things, p=self.places[fact.place])
        name = "when" if fact.time else "place" if fact.holds else "not_place"
        pattern = self.sentences.get(f"{name}_feminine" if is_feminine else name)
        return (pattern or self.sentences[name]).format(
            s=self.subjects[fact.subject],
            p=self.places[fact.place],
            t=self.times[fact.time] if fact.time else "",
        )

    def join(self, sentences: list[str]) -> str:
        """Return sentences as a text."""
        return ("" if self.code == "zh" else " ").join(sentences)

    @property
    def stop(self) -> str:
        """The mark at the end of a sentence; Thai has none."""
        last = self.sentences["place"][-1]
        return "" if last == "}" else last


@cache
def language(code: str) -> Language:
    """Return a language by its code."""
    return Language(code)


def capitalize(sentence: str) -> str:
    """Return a sentence with a capital first letter, which may follow an opening mark."""
    start = len(sentence) - len(sentence.lstrip("¿"))
    return sentence[:start] + sentence[start : start + 1].upper() + sentence[start + 1 :]
