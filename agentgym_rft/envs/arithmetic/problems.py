"""Problems of five levels from a seed.

1: one operation. 2: three or four operations with brackets. 3: stories of one or two steps. 4: fractions.
5: equations and stories of several steps.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from agentgym_rft.envs.arithmetic.expressions import evaluate, random_expression
from agentgym_rft.envs.arithmetic.stories import NAMES, STORIES, THINGS, Story
from agentgym_rft.envs.draws import Draws
from agentgym_rft.envs.generated import distinct_seeds
from agentgym_rft.errors import DataError

VERSION = 1  # rises whenever a problem changes
LEVELS = (1, 2, 3, 4, 5)
SPLIT_SIZES = {"train": 1000, "test": 100}  # of each level
_ASK = "Compute "
_TASK_ID = re.compile(r"v([0-9]{1,6})/level-([1-5])/(train|test)/(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and its exact answer."""

    text: str
    answer: Fraction
    level: int

    def content(self) -> bytes:
        return self.text.encode()


def task_ids(split: str, levels: tuple[int, ...]) -> tuple[str, ...]:
    """Return the ids of a split; the levels take turns, so any first part is a fair sample."""
    by_level = [[task_id(split, level, seed) for seed in seeds(level)[split]] for level in levels]
    return tuple(id for turn in zip(*by_level, strict=True) for id in turn)


def task_id(split: str, level: int, seed: int) -> str:
    """Return the id of a problem; it contains all that defines the problem."""
    return f"v{VERSION}/level-{level}/{split}/{seed}"


def problem(task_id_: str) -> Problem:
    """Return the problem of a task id. Raises `DataError` if there is none."""
    match = _TASK_ID.fullmatch(task_id_)
    if match is None or int(match[1]) != VERSION or int(match[4]) not in seeds(int(match[2]))[match[3]]:
        example = task_id("train", 1, seeds(1)["train"][0])
        raise DataError(f"There is no task '{task_id_}'; expected one like '{example}'.")
    return make_problem(int(match[2]), int(match[4]))


@functools.cache
def seeds(level: int) -> Mapping[str, tuple[int, ...]]:
    """Return the seeds of each split; no two have the same problem."""
    return distinct_seeds(lambda seed: make_problem(level, seed).content(), SPLIT_SIZES)


@functools.lru_cache(maxsize=16_384)
def make_problem(level: int, seed: int) -> Problem:
    """Return the problem of a seed."""
    draws = Draws(f"arithmetic {VERSION} {level} {seed}")
    told = [story for story in STORIES if story.level == level]
    if told:
        return _told(draws.one(told), draws)
    expression = random_expression(level, draws)
    return Problem(f"{_ASK}{expression}.", evaluate(expression), level)


def _told(story: Story, draws: Draws) -> Problem:
    while True:
        numbers = {name: low + draws.below(high - low + 1) for name, (low, high) in story.ranges.items()}
        if story.condition(**numbers):
            break
    words = {"who": draws.one(NAMES), "thing": draws.one(THINGS)}
    return Problem(story.text.format(**numbers, **words), Fraction(story.answer(**numbers)), story.level)


def solve(text: str) -> Fraction | None:
    """Return the answer of a problem by its text alone; None for a text that is no problem of this environment."""
    if text.startswith(_ASK):
        try:
            return evaluate(text.removeprefix(_ASK).removesuffix("."))
        except ValueError:
            return None
    for story in STORIES:
        match = story.pattern().fullmatch(text)
        if match is not None:
            numbers = {name: int(match[name]) for name in story.ranges}
            return Fraction(story.answer(**numbers))
    return None


def answer_text(value: Fraction) -> str:
    """Return a number as it is written: `42` or `3/4`."""
    return str(value)
