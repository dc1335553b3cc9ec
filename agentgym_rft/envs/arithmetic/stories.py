"""Stories and equations with holes for numbers. All are our own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

NAMES = (
    "Ana",
    "Ben",
    "Chloe",
    "Dev",
    "Emil",
    "Fatima",
    "Gita",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Luis",
    "Mona",
    "Noor",
    "Otto",
    "Paula",
)
THINGS = ("apples", "pencils", "marbles", "stickers", "books", "cards", "shells", "stamps", "tickets", "candles")


def _always(**numbers: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Story:
    """A text with holes. `ranges` gives the smallest and largest number of each, `condition` what must hold between
    them, `answer` the value asked for.
    """

    level: int
    text: str
    ranges: dict[str, tuple[int, int]]
    answer: Callable[..., int | Fraction]
    condition: Callable[..., bool] = _always

    def pattern(self) -> re.Pattern[str]:
        """Return matches the texts of this story and gives the numbers by name."""
        return _pattern(self.text)


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def hole(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>\w+)"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", hole, re.escape(text)))


STORIES = (
    Story(
        3,
        "{who} has {a} {thing} and buys {b} more. How many {thing} does {who} have now?",
        {"a": (3, 90), "b": (2, 60)},
        lambda a, b: a + b,
    ),
    Story(
        3,
        "{who} has {a} {thing} and gives {b} of them away. How many {thing} are left?",
        {"a": (10, 99), "b": (2, 60)},
        lambda a, b: a - b,
        lambda a, b: b < a,
    ),
    Story(
        3,
        "There are {a} boxes with {b} {thing} in each. {who} takes out {c} of them. How many {thing} remain?",
        {"a": (3, 12), "b": (4, 20), "c": (2, 30)},
        lambda a, b, c: a * b - c,
        lambda a, b, c: c < a * b,
    ),
    Story(
        3,
        "{who} shares {a} {thing} equally among {b} friends. How many {thing} does each friend get?",
        {"a": (12, 240), "b": (2, 12)},
        lambda a, b: Fraction(a, b),
        lambda a, b: a % b == 0,
    ),
    Story(
        3,
        "A ticket costs {a} coins, a drink {b}. {who} buys {c} tickets and one drink. How many coins is that?",
        {"a": (3, 25), "b": (2, 15), "c": (2, 9)},
        lambda a, b, c: a * c + b,
    ),
    Story(
        3,
        "{who} reads {a} pages on Monday and {b} times as many on Tuesday. How many pages is that in all?",
        {"a": (5, 40), "b": (2, 6)},
        lambda a, b: a + a * b,
    ),
    Story(
        5,
        "Solve for x: {a}x + {b} = {c}.",
        {"a": (2, 12), "b": (1, 60), "c": (1, 99)},
        lambda a, b, c: Fraction(c - b, a),
    ),
    Story(
        5,
        "Solve for x: {a}(x - {b}) = {c}.",
        {"a": (2, 12), "b": (1, 30), "c": (1, 99)},
        lambda a, b, c: Fraction(c, a) + b,
    ),
    Story(
        5,
        "Solve for x: {a}x + {b} = {c}x + {d}.",
        {"a": (2, 15), "b": (1, 50), "c": (2, 15), "d": (1, 50)},
        lambda a, b, c, d: Fraction(d - b, a - c),
        lambda a, b, c, d: a != c,
    ),
    Story(
        5,
        "A tank holds {a} litres. A pump fills in {b} litres a minute while {c} litres a minute leak out. "
        "After how many minutes is the empty tank full?",
        {"a": (60, 900), "b": (8, 40), "c": (1, 15)},
        lambda a, b, c: Fraction(a, b - c),
        lambda a, b, c: b - c >= 3 and a % (b - c) == 0,
    ),
    Story(
        5,
        "{who} buys {a} {thing} for {b} coins each and sells them for {c} percent more. How many coins is the profit?",
        {"a": (5, 60), "b": (4, 50), "c": (5, 80)},
        lambda a, b, c: Fraction(a * b * c, 100),
        lambda a, b, c: c % 5 == 0 and a * b * c % 100 == 0,
    ),
    Story(
        5,
        "A train goes {a} kilometres in {b} hours, stops for {c} hours, and goes on at twice the speed for {d} hours. "
        "How many kilometres does it go in all?",
        {"a": (40, 480), "b": (2, 6), "c": (1, 3), "d": (1, 5)},
        lambda a, b, c, d: a + Fraction(2 * a, b) * d,
        lambda a, b, c, d: a % b == 0,
    ),
)
