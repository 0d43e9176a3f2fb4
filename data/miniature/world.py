"""What can be the case in the small world, and what follows from it.

A fact says where somebody is (perhaps at what time), what somebody does, or how many things are
somewhere. `label_of` says whether a fact follows from others. How a fact is said in a language is
in language.py.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

WOMEN = ("Anna", "Maria", "Laura", "Eva", "Nina", "Julia", "Diana", "Clara", "Emma", "Sara")
MEN = ("David", "Adam", "Daniel", "Martin", "Simon", "Robert", "Victor", "Omar", "Peter", "Leo")
NAMES = (*WOMEN, *MEN)
NEW_NAMES = ("Clara", "Emma", "Sara", "Omar", "Peter", "Leo")  # in no training pair
ANIMALS = ("dog", "cat", "horse", "rabbit")
MUSICIANS = ("pianist", "guitarist", "violinist")
KINDS = {"animal": ANIMALS, "musician": MUSICIANS}
NOUNS = ("girl", "boy", "doctor", "teacher", *ANIMALS, *MUSICIANS)
INDOORS = ("kitchen", "office", "library", "museum", "bedroom")
OUTDOORS = ("garden", "river", "forest", "beach", "bridge")
REGIONS = {"indoors": INDOORS, "outdoors": OUTDOORS}
PLACES = (*INDOORS, *OUTDOORS)
ACTIVITIES = ("read", "write", "sleep", "sing", "dance", "cook", "eat", "work")
TIMES = ("morning", "noon", "evening", "night")
THINGS = ("chair", "book", "apple", "cup")
NUMBERS = (2, 3, 4, 5)
LABELS = ("entailment", "contradictory", "neutral")


@dataclass(frozen=True)
class Fact:
    """Somebody's place or activity, or the number of things at a place."""

    subject: str  # a name, a noun, or a thing
    place: str = ""
    activity: str = ""
    time: str = ""
    number: int = 0
    holds: bool = True  # False: the sentence is negated


def label_of(premise: Sequence[Fact], hypothesis: Fact) -> str:
    """Return what the premise says of the hypothesis: entailment, contradictory or neutral.

    Nobody is in two places at the same time, and things that are counted are all there are.
    """
    for fact in premise:
        truth = _decides(fact, hypothesis)
        if truth is not None:
            return "entailment" if truth == hypothesis.holds else "contradictory"
    return "neutral"


def reason_for(premise: Sequence[Fact], hypothesis: Fact) -> Fact | None:
    """Return the fact of the premise that decides on the hypothesis; None for neutral."""
    return next((fact for fact in premise if _decides(fact, hypothesis) is not None), None)


def _decides(fact: Fact, hypothesis: Fact) -> bool | None:
    """Return whether what the hypothesis states or negates is the case; None: it is not said."""
    is_same = fact.subject == hypothesis.subject
    if not is_same and fact.subject not in KINDS.get(hypothesis.subject, ()):
        return None
    if (fact.activity, fact.time) != (hypothesis.activity, hypothesis.time):
        return None
    if fact.number:
        is_there = fact.place == hypothesis.place and hypothesis.number
        return fact.number == hypothesis.number if is_there else None
    if bool(fact.place) != bool(hypothesis.place) or hypothesis.number:
        return None
    if not fact.place:
        return fact.holds
    is_in = hypothesis.place in (fact.place, region(fact.place))
    if fact.holds:
        return is_in
    return False if fact.place == hypothesis.place else None


def region(place: str) -> str:
    """Return "indoors" or "outdoors"."""
    return next(name for name, places in REGIONS.items() if place in places or place == name)


def is_rare(fact: Fact) -> bool:
    """Return whether the fact's combination is kept for dev and test: one in four is."""
    if fact.subject in NEW_NAMES:
        return True
    parts = (fact.subject, fact.place, fact.activity, fact.time, fact.number)
    return zlib.crc32(repr(parts).encode()) % 4 == 0


def random_subject(rng: random.Random, exclude: Sequence[str] = ()) -> str:
    """Return a name (two times in three) or a noun that is not among `exclude`."""
    subjects = NAMES if rng.random() < 2 / 3 else NOUNS
    return rng.choice([subject for subject in subjects if subject not in exclude])


def _two_places(rng) -> list[Fact]:
    first = random_subject(rng)
    second = random_subject(rng, [first])
    return [Fact(first, rng.choice(PLACES)), Fact(second, rng.choice(PLACES))]


def _place_and_not(rng) -> list[Fact]:
    return _negate_one(rng, _two_places(rng))


def _two_activities(rng) -> list[Fact]:
    first = random_subject(rng, ANIMALS)
    second = random_subject(rng, [first, *ANIMALS])
    one, other = rng.sample(ACTIVITIES, 2)
    return _negate_one(rng, [Fact(first, activity=one), Fact(second, activity=other)])


def _negate_one(rng, facts) -> list[Fact]:
    negated = rng.choice(facts)
    return [replace(fact, holds=fact is not negated) for fact in facts]


def _kind_and_other(rng) -> list[Fact]:
    noun = rng.choice(KINDS[rng.choice(list(KINDS))])
    other = random_subject(rng, (*ANIMALS, *MUSICIANS))
    return [Fact(noun, rng.choice(PLACES)), Fact(other, rng.choice(PLACES))]


def _count_and_place(rng) -> list[Fact]:
    things = Fact(rng.choice(THINGS), rng.choice(PLACES), number=rng.choice(NUMBERS))
    return [things, Fact(random_subject(rng), rng.choice(PLACES))]


def _two_times(rng) -> list[Fact]:
    name, places = rng.choice(NAMES), rng.sample(PLACES, 2)
    return [Fact(name, p, time=t) for p, t in zip(places, rng.sample(TIMES, 2), strict=True)]


def _near_place(rng, premise) -> Fact:
    """Somebody, mostly of the premise, at a place, half of the time of the premise."""
    subjects = [fact.subject for fact in premise if fact.subject not in THINGS]
    subject = rng.choice(subjects) if rng.random() < 0.7 else random_subject(rng, subjects)
    places = [fact.place for fact in premise] if rng.random() < 0.5 else PLACES
    return Fact(subject, rng.choice(places))


def _near_activity(rng, premise) -> Fact:
    subjects = [fact.subject for fact in premise]
    subject = rng.choice(subjects) if rng.random() < 0.7 else random_subject(rng, ANIMALS)
    activities = [fact.activity for fact in premise] if rng.random() < 0.7 else ACTIVITIES
    return Fact(subject, activity=rng.choice(activities))


def _near_region(rng, premise) -> Fact:
    return replace(_near_place(rng, premise), place=rng.choice(list(REGIONS)))


def _kind_somewhere(rng, premise) -> Fact:
    return replace(_near_place(rng, premise), subject=rng.choice(list(KINDS)))


def _near_count(rng, premise) -> Fact:
    fact = next(fact for fact in premise if fact.number)
    changes = {"subject": THINGS, "place": PLACES, "number": NUMBERS}
    changed = [name for name in changes if rng.random() < 0.3]
    return replace(fact, **{name: rng.choice(changes[name]) for name in changed})


def _near_time(rng, premise) -> Fact:
    return replace(_near_place(rng, premise[:1]), time=rng.choice(TIMES))


@dataclass(frozen=True)
class Form:
    """A kind of premise and of hypothesis, and what one has to know to tell the labels apart."""

    phenomenon: str
    premise: Callable[[random.Random], list[Fact]]  # two facts; the first is enough
    hypothesis: Callable[[random.Random, list[Fact]], Fact]
    holds: bool = True  # False: the hypothesis is negated


FORMS = (
    Form("places", _two_places, _near_place),
    Form("negation", _two_places, _near_place, holds=False),
    Form("negation", _place_and_not, _near_place),
    Form("activities", _two_activities, _near_activity),
    Form("negation", _two_activities, _near_activity, holds=False),
    Form("lexical", _two_places, _near_region),
    Form("lexical", _kind_and_other, _kind_somewhere),
    Form("numbers", _count_and_place, _near_count),
    Form("times", _two_times, _near_time),
)


def draw_hypothesis(
    rng: random.Random, form: Form, premise: Sequence[Fact], label: str
) -> Fact | None:
    """Return a form's random hypothesis with that label; None where a hundred draws found none."""
    for _ in range(100):
        hypothesis = replace(form.hypothesis(rng, premise), holds=form.holds)
        if label_of(premise, hypothesis) == label:
            return hypothesis
    return None
