"""Write a small English corpus on which a toy GPT-2 can be trained in minutes.

Every line is one short document of one to three sentences: news and weather from six
invented towns, recipes, true facts about animals and science, sums, letters, dialogues
and more. The people, towns, prices and dates of the invented world never contradict each
other. The same ``--lines`` and ``--seed`` give the same bytes on every Python >= 3.10.

    python -m data.make_pretrain_text [--out pretrain.txt] [--lines 5000] [--seed 0]

The word tables are in ``data/pretrain_words.py``.

Licence: CC0 1.0 (public domain), for this file and for the text that it writes.
"""

from __future__ import annotations

import argparse
import re
from random import Random

from data import pretrain_words as w
from data.pretrain_words import lines
from utils import atomic_write

SENTENCE_START = re.compile(r"""(^"?|[.?!] "?|\." "?|[?!]" "|[,:] ")([a-z])""")
SMALL_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SCHOOL_DAYS = w.DAYS[:5]


# ---------------------------------------------------------------------- helpers


def pick(rng: Random, items):
    """Return one item; uses only ``rng.random()``, which never changes between Pythons."""
    return items[int(rng.random() * len(items))]


def between(rng: Random, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``, both included."""
    return low + int(rng.random() * (high - low + 1))


def pick_two(rng: Random, items):
    """Return two different items."""
    first = between(rng, 0, len(items) - 1)
    second = between(rng, 0, len(items) - 2)
    return items[first], items[second + (second >= first)]


def words(number: int) -> str:
    """Write a whole number from 0 to 100 in words."""
    if number < 20:
        return SMALL_NUMBERS[number]
    if number == 100:
        return "a hundred"
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{SMALL_NUMBERS[ones]}" if ones else "")


def coins(number: int) -> str:
    """Write a price."""
    return "one coin" if number == 1 else f"{words(number)} coins"


def clock(minutes: int) -> str:
    """Write minutes after midnight as a time such as 9:05."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def tidy(text: str) -> str:
    """Begin every sentence, and every speech after a comma or a colon, with a capital."""
    return SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def say(rng: Random, frames: tuple[str, ...], **fields) -> str:
    """Fill one of the sentence patterns; a field may itself hold further fields."""
    text = pick(rng, frames)
    while "{" in text:
        text = text.format(**fields)
    return tidy(text)


# ---------------------------------------------------------------------- news, weather, people

NEWS = lines("""
News from {t.name}: {n.what} on {day}. {n.more}.
In {t.name}, {n.what} on {day}. {n.more}.
{n.what} in {t.name} on {day}.
On {day}, {n.what} in {t.name}. {n.more}.
News from {t.name}, the {t.kind} {t.lies}: {n.what}.
The {t.name} newspaper reports that {n.what} last week. {n.more}.
Last {day} in {t.name}, {n.what}. {n.more}.
{t.name}, {day}: {n.what}. {n.more}.
People in {t.name} are talking about one thing: {n.what}. {n.more}.
The {t.feast} in {t.name} will begin on the first Saturday of {t.month}.
Thousands of visitors are expected at the {t.feast} in {t.name} this {t.month}.
Every {t.month}, {t.name} holds the {t.feast}. It always lasts three days.
{p.name}, the {p.job} in {p.town}, won a prize on {day}. The prize was {q.gift}.
The {p.town} newspaper has printed a story about {p.name}, who {p.does}.
The mayor of {p.town} thanked {p.name}, the {p.job}, in a short speech on {day}.
{p.town} has a new hero: {p.name}, the {p.job}, found a lost child on {day} evening.
""")


def news(rng: Random) -> str:
    """A small news item from one of the towns."""
    p, q = pick_two(rng, w.PEOPLE)
    row = {"t": pick(rng, w.TOWNS), "n": pick(rng, w.NEWS), "day": pick(rng, w.DAYS)}
    return say(rng, NEWS, p=p, q=q, **row)


WEATHER = lines("""
In {t.name}, {x.morning} on {day} morning, and later {x.later}.
{day} in {t.name} will be {x.sky}. {x.advice}.
Forecast for {t.name}: {x.sky}, with {low} degrees in the morning and {high} degrees at noon.
The weather in {t.name} on {date} was {x.sky}, with {high} degrees at noon.
On {date}, {x.morning} in {t.name}. In the afternoon {x.later}.
It will be {x.sky} {t.lies} on {day}. {x.advice}.
{x.advice}, because {day} will be {x.sky} in {t.name}.
Early on {day}, {x.morning} in {t.name}. Later {x.later}.
Weather report, {date}: {x.sky} in {t.name}, between {low} and {high} degrees.
"What is the weather like in {t.name}?" "It is {x.sky}, and the thermometer shows {high} degrees."
One {x.season} morning in {t.name}, {x.morning}. By noon {x.later}.
One {x.season} day in {t.name} was {x.sky}, with about {high} degrees at noon.
After a night of {low} degrees, {x.later} in {t.name} on {day}.
""")


def weather(rng: Random) -> str:
    """A weather report that fits its season."""
    x = pick(rng, w.WEATHER)
    month = pick(rng, [m for m in w.MONTHS if m.season == x.season])
    low, high = (n.replace("-", "minus ") for n in (x.low, x.high))
    date = f"{between(rng, 1, 28)} {month.name}"
    day, town = pick(rng, w.DAYS), pick(rng, w.TOWNS)
    return say(rng, WEATHER, x=x, t=town, day=day, date=date, low=low, high=high)


PEOPLE = lines("""
{p.name} is the {p.job} in {p.town}. You can find {p.him} {p.place}.
{p.name} lives in {p.town} with {p.her} {p.pet} {p.petname}.
The {p.job} in {p.town} is called {p.name}. In {p.her} free time {p.she} enjoys {p.hobby}.
{p.name} {p.does}. {p.she} is the {p.job} in {p.town}.
Who {p.does}? It is {p.name}, the {p.job} in {p.town}.
Ask anyone in {p.town} for the {p.job}, and they will send you to {p.name}.
Children like {p.name}, who {p.does}. {p.she} works {p.place}.
On {day}, {p.name} {p.did} and spent the evening {p.hobby}.
{p.name} works {p.place} in {p.town}. {p.her} {p.pet} is called {p.petname}.
If you visit {p.town}, say hello to {p.name}, the {p.job}.
{p.name} gave {q.name} {p.gift} on {q.her} birthday.
{p.name} and {q.name} are friends. {p.first} is a {p.job}, and {q.first} is a {q.job}.
{p.name} once said that {p.hobby} was the best way to end a long day.
Few people in {p.town} are as busy as {p.name}, who {p.does}.
After a long day at work, {p.name} looks forward to {p.hobby}.
On {day}, {p.name} went from {p.town} to {town} to visit {q.name}, the {q.job}.
{k.one}, is the {k.kin} of {k.other}.
Did you know that {k.one}, is the {k.kin} of {k.other}?
""")


def people(rng: Random) -> str:
    """A short portrait of someone in the invented world."""
    p, q = pick_two(rng, w.PEOPLE)
    if p.town == q.town:
        q = pick(rng, [other for other in w.PEOPLE if other.town != p.town])
    return say(rng, PEOPLE, p=p, q=q, town=q.town, k=pick(rng, w.KIN), day=pick(rng, w.DAYS))


PETS = lines("""
{p.petname} the {p.pet} {a.did}. {a.then}.
On {day}, {p.petname} {a.did}, and {a.then}.
One morning {p.petname}, the {p.pet} that belongs to {p.name}, {a.did}.
{p.name} has a {p.pet} called {p.petname}. Yesterday {p.petname} {a.did}.
"{p.petname} {a.did}," said {p.name}, the {p.job} in {p.town}.
What did {p.petname} the {p.pet} do on {day}? It {a.did}, and {a.then}.
While {p.first} was at work on {day}, {p.petname} {a.did}.
Everyone in {p.town} knows {p.petname}, the {p.pet}. Last {day} it {a.did}.
First {p.petname} {a.did}. Then {a.then}.
{p.name} wrote in a letter: "On {day} {p.petname} {a.did}."
There is a funny story about {p.petname} the {p.pet}, who {a.did} one {day}.
""")


def pets(rng: Random) -> str:
    """A small story about somebody's pet."""
    p = pick(rng, w.PEOPLE)
    act = pick(rng, [a for a in w.PET_ACTS if a.pet == p.pet])
    return say(rng, PETS, p=p, a=act, day=pick(rng, w.DAYS))


# ---------------------------------------------------------------------- kitchen and garden

RECIPES = lines("""
To make {r.dish}, you need {r.need}. First {r.first}, and then {r.then}.
{r.first}. Then {r.then} and {r.last}. Now you have {r.dish}.
For {r.dish}, {r.first}, {r.then} and {r.last}.
Recipe for {r.dish}: {r.first}, {r.then} and {r.last}.
"How do you make {r.dish}?" asked {c}. "{r.first} and {r.then}," said {p}.
{p} often makes {r.dish} with {r.need}.
We need {r.need} for {r.dish}.
Before you make {r.dish}, check that you have {r.need}.
On {day}, {c} learned how to make {r.dish} with {r.need}.
First {r.first}. Next {r.then}. Finally {r.last}.
Ingredients for {r.dish}: {r.need}. {r.first}.
When you make {r.dish}, {r.first} before you {r.then}.
The last step for {r.dish} is simple: {r.last}.
{p} has an easy recipe for {r.dish}. You {r.first}, {r.then} and {r.last}.
We had {r.dish} on {day}, and {c} asked for more.
""")


def recipes(rng: Random) -> str:
    """A recipe or a part of one."""
    row = {"r": pick(rng, w.RECIPES), "p": pick(rng, w.COOKS), "c": pick(rng, w.CHILDREN)}
    return say(rng, RECIPES, day=pick(rng, w.DAYS), **row)


KITCHEN = lines("""
To {k.goal}, {k.do}.
If you want to {k.goal}, {k.do}, because {k.why}.
If you want to {k.goal}, {k.do}.
"How can I {k.goal}?" asked {c}. "{k.do}," said {p}.
{p} taught {c} how to {k.goal}: {k.do}.
Kitchen tip for {day}: to {k.goal}, {k.do}.
Good cooks know how to {k.goal}. They say that {k.why}.
It is easy to {k.goal}. {k.do}, because {k.why}.
The best way to {k.goal} is an old one: {k.do}.
"To {k.goal}, {k.do}," says {p}.
Do you want to {k.goal}? Then {k.do}.
{c} asked {p} how to {k.goal} and wrote the answer in a notebook.
Remember one thing when you want to {k.goal}: {k.why}.
""")


def kitchen(rng: Random) -> str:
    """A piece of kitchen advice."""
    k, p, c = pick(rng, w.KITCHEN), pick(rng, w.COOKS), pick(rng, w.CHILDREN)
    return say(rng, KITCHEN, k=k, p=p, c=c, day=pick(rng, w.DAYS))


GARDENING = lines("""
Sow {g.many} in {g.sow} {g.where}. They are at their best in {g.ready}.
{g.many} grow well {g.where}. {g.tip}.
Henry Pike sows his {g.many} in {g.sow} and enjoys them from {g.ready}.
When you grow {g.many}, {g.tip}.
In {g.sow}, Ruth Alder sowed {n} kinds of {g.many} {g.where}.
"When should I sow {g.many}?" asked {c}. "In {g.sow}," said Henry Pike.
Garden notes for {g.sow}: sow {g.many} {g.where}.
If you want fine {g.many} in {g.ready}, sow them in {g.sow} and {g.tip}.
{c} planted {g.many} in the school garden in {g.sow} and waited until {g.ready}.
The {g.many} in {town} are ready in {g.ready}. They were sown in {g.sow}.
A good place for {g.many} is easy to remember: sow them {g.where}.
"{g.tip}," says Henry Pike to everyone who grows {g.many}.
On {day} {c} helped in the garden and watered the {g.many}.
We grow {g.many} {g.where} and {h.many} {h.where}.
Both {g.many} and {h.many} can be sown in {g.sow}.
""")


def gardening(rng: Random) -> str:
    """Advice or news from a garden."""
    g = pick(rng, w.PLANTS)
    h = pick(rng, [x for x in w.PLANTS if x.sow == g.sow and x.where != g.where])
    row = {"c": pick(rng, w.CHILDREN), "town": pick(rng, w.TOWNS).name, "day": pick(rng, w.DAYS)}
    return say(rng, GARDENING, g=g, h=h, n=words(between(rng, 2, 9)), **row)


# ---------------------------------------------------------------------- nature and school

ANIMALS = lines("""
{a.one} is {a.sort}, and its young are called {a.young}.
{a.many} live {a.home}. They eat {a.food}.
{a.many} {a.fact}.
Where do {a.many} live? They live {a.home}.
Did you know that {a.many} {a.fact}?
{c} drew a picture of {a.one} and wrote below it: "{a.many} {a.fact}."
{a.many} live {a.home}, and their young are called {a.young}.
{a.many} eat {a.food}, and they {a.fact}.
What do {a.many} eat? They eat {a.food}.
Hannah Frost told the class that {a.many} {a.fact}.
{a.many} and {b.many} are very different: {a.many} live {a.home}, but {b.many} live {b.home}.
{a.one} is {a.sort}. {a.many} live {a.home} and eat {a.food}.
{c} likes {a.many}, because they {a.fact}.
At the museum we learned that {a.many} {a.fact}.
{c} has a book about {a.many}. It says that they live {a.home}.
""")


def animals(rng: Random) -> str:
    """A true fact about an animal."""
    a, b = pick_two(rng, w.ANIMALS)
    if a.home == b.home:
        b = next(other for other in w.ANIMALS if other.home != a.home)
    return say(rng, ANIMALS, a=a, b=b, c=pick(rng, w.CHILDREN))


RIDDLES = lines("""
I live {a.home}, and my young are called {a.young}. What am I? I am {a.one}.
I am {a.sort}. I live {a.home} and eat {a.food}. What am I? I am {a.one}.
Which animals {a.fact}? The answer is {a.many}.
{c} asked a riddle: "Which animals {a.fact}?" {d} said that the answer was {a.many}.
Quiz question: which animals have young called {a.young} and live {a.home}? Answer: {a.many}.
What do we call {t.means}? We call it {t.term}.
Quiz question: what is the name for {t.means}? Answer: {t.term}.
"I am thinking of {t.means}," said {c}. "Then it is {t.term}," said {d}.
I am {i.sort}. You play me by {i.how}. What am I? I am {i.one}.
Which town lies {o.lies} and is known for its {o.known}? It is {o.name}.
Who {p.does}? {c} knew the answer: {p.name}, the {p.job}.
""")


def riddles(rng: Random) -> str:
    """A riddle or a quiz question with its answer."""
    c, d = pick_two(rng, w.CHILDREN)
    row = {"a": pick(rng, w.ANIMALS), "i": pick(rng, w.INSTRUMENTS), "o": pick(rng, w.TOWNS)}
    things = [t for t in w.DEFINITIONS if not t.means.startswith(("a person", "a doctor"))]
    return say(rng, RIDDLES, c=c, d=d, t=pick(rng, things), p=pick(rng, w.PEOPLE), **row)


SCIENCE = lines("""
{s.ask}? Because {s.answer}.
{c} asked {s.asked}. Ada Moss said that {s.answer}.
In the science lesson on {day}, we learned {s.asked}: {s.answer}.
"{s.ask}?" asked {c}. "Because {s.answer}," said {d}.
Do you know {s.asked}? The reason is that {s.answer}.
{c} can explain {s.asked}. "{s.answer}," says {c}.
Ada Moss wrote a question on the board: "{s.ask}?" {c} knew the answer at once.
A short answer is enough to explain {s.asked}: {s.answer}.
Today I understood {s.asked}. It happens because {s.answer}.
The homework for {day} is to find out {s.asked}.
{d} wondered {s.asked}, so {c} looked it up. The book said that {s.answer}.
Page {n} of our science book explains {s.asked}.
""")


def science(rng: Random) -> str:
    """A true scientific explanation from the school."""
    c, d = pick_two(rng, w.CHILDREN)
    s, day = pick(rng, w.SCIENCE), pick(rng, SCHOOL_DAYS)
    return say(rng, SCIENCE, s=s, c=c, d=d, day=day, n=10 + 2 * w.SCIENCE.index(s))


FACTS = lines("""
{f.one}, and {f.two}.
Did you know that {f.one}? Also, {f.two}.
{c} wrote two facts about {f.topic}: {f.one}, and {f.two}.
Here is a fact about {f.topic}: {f.one}.
Ada Moss told us that {f.one}, and that {f.two}.
In our lesson about {f.topic}, we learned that {f.one}.
The first line in the notebook says that {f.one}. The second says that {f.two}.
It is true that {f.one}. It is also true that {f.two}.
{c} knows a lot about {f.topic}. "{f.one}," says {c}.
On {day} the class talked about {f.topic}. {f.one}, and {f.two}.
""")


def facts(rng: Random) -> str:
    """One or two true facts about the Earth, space, plants or materials."""
    return say(
        rng, FACTS, f=pick(rng, w.FACTS), c=pick(rng, w.CHILDREN), day=pick(rng, SCHOOL_DAYS)
    )


EXPERIMENTS = lines("""
Experiment: {e.do}. You will see that {e.see}, because {e.why}.
For this experiment you need {e.need}. {e.do}.
If you {e.do}, {e.see}.
{c} and {d} tried an experiment on {day}. At the end they wrote: "{e.why}."
What happens if you {e.do}? You will see that {e.see}.
Take {e.need}. {e.do}. What do you see?
{c} wrote in the notebook: "{e.see}." Ada Moss explained that {e.why}.
We used {e.need}. Our result: {e.see}.
In this experiment, {e.see}. The reason is that {e.why}.
"{e.do}," said Ada Moss. "You will see that {e.see}."
Here is a simple test of the rule that {e.why}: {e.do}.
{d} did not believe that {e.why}, so {c} did an experiment.
Materials: {e.need}. Result: {e.see}.
""")


def experiments(rng: Random) -> str:
    """A school experiment with its result."""
    c, d = pick_two(rng, w.CHILDREN)
    return say(rng, EXPERIMENTS, e=pick(rng, w.EXPERIMENTS), c=c, d=d, day=pick(rng, SCHOOL_DAYS))


DEFINITIONS = lines("""
{t.term} is {t.means}.
{t.term} is {t.means}. Example: "{t.sample}."
What is {t.term}? It is {t.means}.
{c} looked up a word in the dictionary and read that {t.term} is {t.means}.
"{t.term} is {t.means}," said {c}.
Here is a sentence with the word of the day: "{t.sample}."
Dictionary: {t.term} is {t.means}. {t.sample}.
{c} wrote a sentence in the blue notebook: "{t.sample}."
{t.sample}. Remember that {t.term} is {t.means}.
{c} did not know what {t.term} was. {d} explained: "{t.term} is {t.means}."
""")


def definitions(rng: Random) -> str:
    """The meaning of a word, with or without an example."""
    c, d = pick_two(rng, w.CHILDREN)
    return say(rng, DEFINITIONS, t=pick(rng, w.DEFINITIONS), c=c, d=d)


NUMBERS = lines("""
{a} plus {b} is {sum}, so {sum} minus {b} is {a}.
{a} times {b} is {product}, and {product} divided by {b} is {a}.
Half of {double} is {a}, and twice {a} is {double}.
A box holds {a} pencils, so {b} boxes hold {product} pencils.
{c} had {a} marbles and found {b} more. Now {c} has {sum} marbles.
{c} had {sum} marbles and gave {b} of them to {d}. That left {a} marbles.
A garden {long} metres long and {b} metres wide covers {area} square metres.
There are seven days in a week, so {a} weeks have {weekdays} days.
One metre is 100 centimetres, so {a} metres are {a}00 centimetres.
One kilogram is 1000 grams, so {a} kilograms are {a}000 grams.
One hour has 60 minutes, so {a} hours have {minutes} minutes.
{c} counts in steps of {b}: {b}, {double_b}, {triple_b}, {four_b}.
{sum} is greater than {a}, and the difference is {b}.
Ten per cent of {a}0 is {a}.
A square with sides of {a} metres has a fence of {fence} metres around it.
The play starts at {b} o'clock and lasts two hours, so it ends at {end} o'clock.
"What is {a} times {b}?" asked Ada Moss. "{product}," said {c}.
If {product} apples are shared by {b} children, every child gets {a} apples.
Leo is ten. In {words_a} years he will be {leo}.
Mia is eight. In {words_a} years she will be {mia}.
The number {double} is even, and the number {odd} is odd.
{month.name} {has} {month.days} days, and the month after it is {next_month}.
The day after {day} is {tomorrow}, and the day before {day} is {yesterday}.
If today is {day}, it will be {day} again in seven days.
""")


def numbers(rng: Random) -> str:
    """A correct sum, measure or line about the calendar."""
    a, b = between(rng, 3, 20), between(rng, 2, 9)
    c, d = pick_two(rng, w.CHILDREN)
    day, month = between(rng, 0, 6), between(rng, 0, 11)
    return say(
        rng,
        NUMBERS,
        a=a,
        b=b,
        c=c,
        d=d,
        sum=a + b,
        product=a * b,
        double=2 * a,
        odd=2 * a + 1,
        long=a + b,
        area=(a + b) * b,
        weekdays=7 * a,
        minutes=60 * a,
        double_b=2 * b,
        triple_b=3 * b,
        four_b=4 * b,
        fence=4 * a,
        end=b + 2,
        words_a=words(a),
        leo=words(10 + a),
        mia=words(8 + a),
        day=w.DAYS[day],
        tomorrow=w.DAYS[(day + 1) % 7],
        yesterday=w.DAYS[day - 1],
        month=w.MONTHS[month],
        next_month=w.MONTHS[(month + 1) % 12].name,
        has="usually has" if month == 1 else "has",
    )


# ---------------------------------------------------------------------- history and places

HISTORY = lines("""
In {e.year}, {e.event} in {e.town}.
{e.town}, {e.year}: {e.event}.
The museum in {e.town} has a picture from {e.year}, when {e.event}.
In {e.town}, {e.event} in {e.year}, and {f.event} {gap} years later.
Ada Moss told the class what happened in {e.town} in {e.year}: {e.event}.
Old people in {e.town} still tell their grandchildren how {e.event} in {e.year}.
"In {e.year}, {e.event}," reads the sign by {t.sight} in {e.town}.
The history of {e.town} is long. In {e.year}, for example, {e.event}.
Every child in {e.town} knows {e.year}, the year in which {e.event}.
What happened in {e.town} in {e.year}? In that year, {e.event}.
A page in the chronicle of {e.town} says that {e.event} in {e.year}.
{e.town} has a long history. In {e.year}, {e.event}, and in {f.year}, {f.event}.
""")


def history(rng: Random) -> str:
    """An event from the history of an invented town."""
    f = pick(rng, [b for a, b in zip(w.HISTORY, w.HISTORY[1:], strict=False) if a.town == b.town])
    e = pick(rng, [x for x in w.HISTORY if x.town == f.town and int(x.year) < int(f.year)])
    town = next(t for t in w.TOWNS if t.name == e.town)
    gap = int(f.year) - int(e.year)
    return say(rng, HISTORY, e=e, f=f, t=town, gap=gap)


TRAVEL = lines("""
The train from {here} at {leave} arrives in {there} at {arrive}.
It takes {ride} minutes to go from {here} to {there} by train.
If you take the train at {leave} from {here}, you will be in {there} at {arrive}.
Passengers for {there} should be at the station in {here} before {leave}.
We took the train from {here} at {leave} and reached {there} {ride} minutes later.
{v.town} lies {t.lies}. There you can {v.do} or {u.do}.
On {day} we {v.did} in {v.town}. After lunch we {u.did}.
Travel tip: in {v.town} you should {v.do} and then {u.do}.
{t.name} is a {t.kind} {t.lies}. It is known for its {t.known}.
The most famous sight in {t.name}, the {t.kind} {t.lies}, is {t.sight}.
"What did you do in {v.town}?" "We {v.did}, and then we {u.did}."
A day in {v.town} is never long enough. We {v.did}, but we had no time for anything else.
Visitors to {v.town} love to {v.do}. In {t.month} they also come for the {t.feast}.
{p} and I went to {v.town} in {t.month}. We {v.did} and {u.did}.
The bus from Dunmarrow to Pellbridge takes forty minutes, and Victor Lane is the driver.
Postcard from {v.town}: "Today we {v.did}. Tomorrow we want to {u.do}."
On {day} {p} {v.did} in {v.town} and was home before dark.
Do not leave {v.town} before you {v.do}. It is worth the journey.
""")


def travel(rng: Random) -> str:
    """A travel note; train times follow the timetable of the hill railway."""
    here, there = pick_two(rng, w.STATIONS)
    down = there[1] > here[1]
    start = between(rng, 6, 17) * 60
    leave = start + (here[1] if down else 90 - here[1])
    ride = abs(there[1] - here[1])
    v = pick(rng, w.VISITS)
    u = pick(rng, [x for x in w.VISITS if x.town == v.town and x != v])
    town = next(t for t in w.TOWNS if t.name == v.town)
    row = {"here": here[0], "there": there[0], "leave": clock(leave), "ride": words(ride)}
    row |= {"arrive": clock(leave + ride), "p": pick(rng, w.CHILDREN), "day": pick(rng, w.DAYS)}
    return say(rng, TRAVEL, v=v, u=u, t=town, **row)


SHOPPING = lines("""
{g.one} costs {price} at {g.shop}, so {n} {g.many} cost {total}.
At {g.shop} you can buy {g.one} for {price}.
{c} bought {n} {g.many} at {g.shop} and paid {total}.
{c} had {purse}, spent {total} on {n} {g.many} and had {rest} left.
"How much is {g.one}?" asked {c}. "{price}," was the answer at {g.shop}.
"{n} {g.many}, please," said {c} at {g.shop}. "That makes {total}."
{c} paid for {n} {g.many} with {purse} and got {rest} back.
{n} {g.many} for {total}: that is the usual price at {g.shop}.
{c} wanted {n} {g.many}, but {short} were not enough, because they cost {total}.
Shopping list for {day}: {n} {g.many} and {h.one} from {g.shop}.
At {g.shop}, {g.one} costs {price} and {h.one} costs {price_h}.
{g.one} and {h.one} cost {both} together at {g.shop}.
On {day}, {g.shop} sold {n} {g.many} in one hour and earned {total}.
Nobody at {g.shop} can remember a day when {g.one} did not cost {price}.
""")


def shopping(rng: Random) -> str:
    """A line about shop prices; every price is fixed and every sum is correct."""
    g = pick(rng, w.GOODS)
    h = pick(rng, [x for x in w.GOODS if x.shop == g.shop and x != g])
    price, price_h = int(g.price), int(h.price)
    count = between(rng, 2 + (price == 1), min(9, 80 // price))
    rest = between(rng, 1, 9)
    total = count * price
    row = {"c": pick(rng, w.CHILDREN), "day": pick(rng, w.DAYS), "n": words(count)}
    row |= {"price": coins(price), "price_h": coins(price_h), "both": coins(price + price_h)}
    row |= {"total": coins(total), "purse": coins(total + rest), "rest": coins(rest)}
    return say(rng, SHOPPING, g=g, h=h, short=coins(max(2, total - rest)), **row)


SPORTS = lines("""
The {x.team} beat the {y.team} {score} in {home} on {day}. {x.scorer} {scored}.
{x.name} {hi}, {y.name} {lo}: {x.scorer} {scored} for the {x.team}.
On {day}, the {x.team} won {score} against the {y.team} in {home}.
"We played well," said {x.captain} after the {x.team} beat the {y.team} {score}.
"We must train harder," said {y.captain} after the {y.team} lost {score} in {home}.
{y.keeper} made many saves, but the {y.team} lost to the {x.team} {score}.
The {x.team} and the {y.team} drew {level} in {home} on {day}.
After a draw in {home}, {x.captain} and {y.captain} shook hands. It ended {level}.
{x.name} will play {y.name} on {day}. {x.captain} leads the {x.team}.
The {x.team} from {x.name} wear {x.colour} shirts, and the {y.team} wear {y.colour} ones.
{x.keeper} stands in goal for the {x.team}, the football team of {x.name}.
In the match on {day}, {x.scorer} {scored} for the {x.team}, who won {score}.
It rained in {home}, but the {x.team} did not mind. They beat the {y.team} {score}.
The {r.event} was won by a team from {x.name}. {y.name} came second.
{n} people took part in the {r.event} on {day}. The winner was from {x.name}.
The {r.event} covers {r.length}. On {day} the fastest was a girl from {x.name}.
Heavy rain stopped the {r.event} on {day}. It will be held next week.
{p.name}, the {p.job}, came {place} in the {r.event} on {day}.
""")


def sports(rng: Random) -> str:
    """A report about a football match or a race."""
    x, y = pick_two(rng, w.TOWNS)
    lo = between(rng, 0, 3)
    hi = between(rng, lo + 1, 5)
    level = between(rng, 0, 4)
    goals = [SMALL_NUMBERS[n] if n else "nil" for n in (hi, lo, level)]
    scored = "scored the only goal" if hi == 1 else pick(rng, ("scored twice", "scored first"))
    row = {"score": f"{goals[0]} to {goals[1]}", "level": f"{goals[2]} all", "scored": scored}
    row |= {"home": pick(rng, (x, y)).name, "day": pick(rng, w.DAYS), "r": pick(rng, w.RACES)}
    row |= {
        "n": words(between(rng, 20, 90)),
        "place": pick(rng, ("third", "fourth", "fifth", "sixth", "last")),
    }
    return say(rng, SPORTS, x=x, y=y, hi=hi, lo=lo, p=pick(rng, w.PEOPLE), **row)


# ---------------------------------------------------------------------- words between people

HOWTO = lines("""
To {h.goal}, {h.first} and then {h.then}.
How do you {h.goal}? {h.first}, and then {h.then}.
First {h.first}. Then {h.then}. That is how to {h.goal}.
If you want to {h.goal}, {h.first}. Remember that {h.why}.
{p.name} showed {c} how to {h.goal}: "{h.first} and {h.then}."
{c} has learned how to {h.goal}. You {h.first} and {h.then}.
How to {h.goal}: first {h.first}, then {h.then}.
When you {h.goal}, {h.first} and {h.then}, because {h.why}.
It is not hard to {h.goal}. {h.first} and {h.then}.
"Can you {h.goal}?" asked {c}. "Yes, you {h.first} and {h.then}," said {p.first}.
Anyone can {h.goal}. Just {h.first} and {h.then}.
It is good to know that {h.why} when you {h.goal}.
{p.first} always says that {h.why}. Think of it when you {h.goal}.
""")


def howto(rng: Random) -> str:
    """A short instruction."""
    h, p, c = pick(rng, w.HOWTO), pick(rng, w.PEOPLE), pick(rng, w.CHILDREN)
    return say(rng, HOWTO, h=h, p=p, c=c)


DIALOGUES = lines("""
"{q.ask}" asked {s.asker}. "{q.reply}"
"{q.ask}" asked {s.asker}. "{reply}," said {s.other}.
{s.asker} asked {s.other}: "{q.ask}" The answer came at once: "{q.reply}"
"{tell}," said {s.asker}. "{answer}," said {s.other}.
{s.asker} ran into the kitchen and said, "{x.tell}"
{s.asker} looked up and said, "{x.tell}" {s.other} smiled and said, "{answer}."
{s.asker} opened the door. "{q.ask}" "{q.reply}"
On {day} evening {s.asker} asked, "{q.ask}" and {s.other} said, "{q.reply}"
"{tell}," said {s.asker} on {day}, and {s.other} said, "{answer}."
""")


def dialogues(rng: Random) -> str:
    """A question and its answer, or two lines of small talk."""
    x, q, s = pick(rng, w.TELLS), pick(rng, w.TALK), pick(rng, w.SPEAKERS)
    row = {"tell": x.tell[:-1], "answer": pick(rng, (x.one, x.two))[:-1], "reply": q.reply[:-1]}
    return say(rng, DIALOGUES, x=x, q=q, s=s, day=pick(rng, w.DAYS), **row)


DIARY = lines("""
{date}. {m}. {e}
{date}. {m}. Later {a}.
{day}. In the morning {m}. In the afternoon {a}.
{day}. {a}. {e}
Dear diary, on {day} {m}. {e}
Dear diary, today {m}, and after lunch {a}.
{day}. {m}, and then {a}. {e}
{date}. Today {a}. {e}
On {day} {m}, and in the afternoon {a}.
From my diary, {date}: "{m}. {e}"
""")


def diary(rng: Random) -> str:
    """A diary entry."""
    month = pick(rng, [m for m in w.MONTHS if m.season == "summer"])
    row = {"m": pick(rng, w.MORNINGS), "a": pick(rng, w.AFTERNOONS), "e": pick(rng, w.EVENINGS)}
    return say(rng, DIARY, date=f"{between(rng, 1, 30)} {month.name}", day=pick(rng, w.DAYS), **row)


LETTERS = lines("""
Dear {q.first}, thank you for sending me {q.gift}. It was a lovely surprise. Yours, {p.first}
Dear {q.first}, I hope that you and {q.petname} are well. Best wishes, {p.first}
Dear {p.first}, could you bring {p.gift} when you come on {day}? Yours, {q.first}
Dear {q.first}, please come to {p.town} for the {t.feast} in {t.month}. Love, {p.first}
Dear {q.first}, I am sending you {p.gift} for your birthday. Best wishes, {p.first}
Dear {q.first}, how is the weather in {q.town}? Here in {p.town} it is {x.sky}. Yours, {p.first}
Dear {q.first}, on {day} {p.petname} {a.did}. You would have laughed. Love, {p.first}
Dear {q.first}, I am coming to {q.town} on {day}. Please keep me some cake. Yours, {p.first}
Dear {p.first}, I have not seen you since {t.month}. Are you still {p.hobby}? Love, {q.first}
Dear {q.first}, I am sorry that I could not come on {day}. Please forgive me. Yours, {p.first}
Dear Doctor Quill, my foot is much better, and I can walk to work again. Yours, {o.first}
Dear {q.first}, yesterday I spent the whole evening {p.hobby}. What did you do? Yours, {p.first}
Dear {q.first}, your letter made me smile. I read it aloud to {p.petname}. Love, {p.first}
Dear {q.first}, may I stay with you from {day} to {later}? Best wishes, {p.first}
{p.first} sent a letter from {p.town} to {q.first} in {q.town}. It arrived on {day}.
""")


def letters(rng: Random) -> str:
    """A short letter between two people of the invented world."""
    p, q = pick_two(rng, w.PEOPLE)
    if p.town == q.town:
        q = pick(rng, [other for other in w.PEOPLE if other.town != p.town])
    town = next(t for t in w.TOWNS if t.name == p.town)
    season = next(m.season for m in w.MONTHS if m.name == town.month)
    day = between(rng, 0, 6)
    row = {
        "day": w.DAYS[day],
        "later": w.DAYS[(day + between(rng, 1, 3)) % 7],
        "o": pick(rng, [other for other in w.PEOPLE if other.job != "doctor"]),
        "x": pick(rng, [x for x in w.WEATHER if x.season == season]),
        "a": pick(rng, [a for a in w.PET_ACTS if a.pet == p.pet]),
    }
    return say(rng, LETTERS, p=p, q=q, t=town, **row)


PROVERBS = lines("""
{full}
In {t.name} people say: "{full}"
{p.name}, the {p.job}, likes to say: "{full}"
"{said}," says {p.name}.
An old saying from {t.name}: "{full}"
Over the door of a house in {t.name} stands a proverb: "{full}"
Grandmother always said: "{full}" I think that she was right.
{c} wrote a proverb on the first page of the notebook: "{full}"
{full} That is what they say in {t.name}.
"{full}" My grandmother in {t.name} taught me this proverb.
""")


def proverbs(rng: Random) -> str:
    """A proverb of the invented world."""
    full = pick(rng, w.PROVERBS)
    row = {"t": pick(rng, w.TOWNS), "p": pick(rng, w.PEOPLE), "c": pick(rng, w.CHILDREN)}
    return say(rng, PROVERBS, full=full, said=full[:-1], **row)


REVIEWS = lines("""
{r.title} is a {r.sort} by {r.maker} about {r.about}. {r.liked}.
I liked {r.title}, because {r.liked}.
{p.name} gave {r.title} {n} stars out of five. "{r.liked}," wrote the {p.job}.
The {r.sort} {r.title} tells of {r.about}. {r.liked}, although {r.disliked}.
{r.title} by {r.maker}: {r.liked}, but {r.disliked}.
Have you heard of {r.title}? It is a {r.sort} about {r.about}.
There is a {r.sort} by {r.maker} about {r.about}. It is called {r.title}.
In {r.title}, {r.maker} has done good work. {r.liked}.
{p.name} found only one fault in {r.title}: {r.disliked}.
"{r.disliked}, but {r.liked}," said {p.first} about {r.title}.
My favourite {r.sort} is {r.title} by {r.maker}. {r.liked}.
I was not sure about {r.title} at first, because {r.disliked}. Still, {r.liked}.
{c} told me about {r.title} by {r.maker}. It is about {r.about}.
On {day} evening everyone in {t.name} talked about {r.title}, the {r.sort} by {r.maker}.
""")


def reviews(rng: Random) -> str:
    """A review of an invented book, film or play."""
    r, p = pick(rng, w.WORKS), pick(rng, w.PEOPLE)
    stars = words(3 + (w.WORKS.index(r) + w.PEOPLE.index(p)) % 3)
    row = {"c": pick(rng, w.CHILDREN), "t": pick(rng, w.TOWNS), "day": pick(rng, w.DAYS)}
    return say(rng, REVIEWS, r=r, p=p, n=stars, **row)


MUSIC = lines("""
{i.one} is {i.sort}. You play it by {i.how}.
{i.player} plays {i.one} in the town band. {i.one} {i.fact}.
The Pellbridge band played {tune} on {day}. {i.player} played {i.one}.
How do you play {i.one}? You play it by {i.how}.
{c} asked about {i.one}, and Lucy Bell said that it {i.fact}.
{tune} begins with {i.one}, and {j.one} joins in later.
{i.player} practised {tune} on {i.one} for {n} minutes on {day}.
At the concert in {t.name}, {i.player} played {i.one} and {j.player} played {j.one}.
{i.one} {i.fact}. It is {i.sort}.
My favourite part of {tune} is the short solo of {i.one} near the end.
Lucy Bell chose {tune} for the {t.feast} in {t.name}.
"I want to learn {i.one}," said {c}. "Then come on {day}," said Lucy Bell.
{i.one} and {j.one} sound well together in {tune}.
The concert on {day} ended with {tune}, and the whole of {t.name} clapped.
""")


def music(rng: Random) -> str:
    """A line about an instrument, the band or a concert."""
    i, j = pick_two(rng, w.INSTRUMENTS)
    row = {"t": pick(rng, w.TOWNS), "c": pick(rng, w.CHILDREN), "day": pick(rng, w.DAYS)}
    return say(rng, MUSIC, i=i, j=j, tune=pick(rng, w.TUNES), n=5 * between(rng, 4, 12), **row)


# ---------------------------------------------------------------------- the corpus

KINDS = (
    news,
    weather,
    people,
    pets,
    recipes,
    kitchen,
    gardening,
    animals,
    riddles,
    science,
    facts,
    experiments,
    definitions,
    numbers,
    history,
    travel,
    shopping,
    sports,
    howto,
    dialogues,
    diary,
    letters,
    proverbs,
    reviews,
    music,
)
TRIES = 500  # a kind that repeats itself this often in a row is used up


def make_lines(count: int = 5000, seed: int = 0) -> list[str]:
    """Return ``count`` different lines, the kinds in equal shares, in shuffled order."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rng = Random(seed)
    found: dict[str, None] = {}
    kinds = list(KINDS)
    while len(found) < count:
        for kind in tuple(kinds):
            if len(found) == count:
                break
            for _ in range(TRIES):
                line = kind(rng)
                if line not in found:
                    found[line] = None
                    break
            else:
                kinds.remove(kind)
        if not kinds:
            raise ValueError(f"the patterns give only {len(found)} different lines")
    return sorted(found, key=lambda line: (rng.random(), line))


def main() -> None:
    """Write the corpus to a file, in one step."""
    parser = argparse.ArgumentParser(description="Write the small pretraining corpus.")
    parser.add_argument("--out", default="pretrain.txt", help="file to write")
    parser.add_argument("--lines", type=int, default=5000, help="how many lines")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random choices")
    args = parser.parse_args()
    text = "".join(line + "\n" for line in make_lines(args.lines, args.seed))
    with atomic_write(args.out) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(f"{args.out}: {args.lines} lines, {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
