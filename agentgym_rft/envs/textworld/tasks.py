"""The games by family, level and seed. No engine is needed here: a game is made when it is first played."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym_rft.errors import ConfigError, DataError, did_you_mean

GENERATOR = 1  # raise it when the same id would give another game
DEFAULT_GAMES = ("coin_collector-l5", "treasure_hunter-l5", "simple-l1", "cooking-l3")
FIRST_TEST_SEED = 1_000_000  # seeds from here on are of the test split, whose games are drawn from what is held out
MAX_ROOMS = 100  # of a game that the compiler of TextWorld 1.7 takes

_GAME = re.compile(r"(?P<family>[a-z_]+)-l(?P<level>[1-9]\d{0,3})")
_TASK = re.compile(rf"{_GAME.pattern}-s(?P<seed>0|[1-9]\d{{0,8}})-g{GENERATOR}")
_SIMPLE = tuple((rewards, goal) for goal in ("detailed", "brief") for rewards in ("dense", "balanced", "sparse"))
_COOKING: tuple[dict[str, Any], ...] = tuple(
    {"recipe": recipe, "take": recipe, "go": rooms, "open": rooms > 1, "cook": cook, "cut": cut}
    for recipe, rooms, cook, cut in (
        (1, 1, False, False),
        (1, 1, False, True),
        (1, 1, True, True),
        (1, 6, False, False),
        (1, 6, True, True),
        (2, 6, True, True),
        (3, 6, True, True),
        (3, 9, True, True),
        (3, 12, True, True),
        (5, 12, True, True),
    )
)


@dataclass(frozen=True, slots=True)
class Task:
    """A game: a family of TextWorld's challenges, a level of it and a seed."""

    family: str
    level: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.family}-l{self.level}-s{self.seed}-g{GENERATOR}"

    @property
    def is_test(self) -> bool:
        return self.seed >= FIRST_TEST_SEED

    def settings(self) -> dict[str, Any]:
        """Return the arguments of TextWorld's generator of the family."""
        return _FAMILIES[self.family][1](self)

    def content(self, engine_version: str) -> bytes:
        """Return what the game is made from: it is known before the game is made, and equal on every machine."""
        made_from = {
            "family": self.family,
            "settings": self.settings(),
            "seed": self.seed,
            "generator": GENERATOR,
            "textworld": engine_version,
        }
        return json.dumps(made_from, sort_keys=True).encode()


def _by_level(task: Task) -> dict[str, Any]:
    return {"level": task.level}


def _simple(task: Task) -> dict[str, Any]:
    rewards, goal = _SIMPLE[task.level - 1]
    return {"rewards": rewards, "goal": goal, "test": task.is_test}


def _cooking(task: Task) -> dict[str, Any]:
    split = "test" if task.is_test else "train"
    return {**_COOKING[task.level - 1], "drop": False, "recipe_seed": 0, "split": split}


# Family: its highest level, and how a level becomes settings.
_FAMILIES: dict[str, tuple[int, Callable[[Task], dict[str, Any]]]] = {
    "coin_collector": (300, _by_level),
    "treasure_hunter": (30, _by_level),
    "simple": (len(_SIMPLE), _simple),
    "cooking": (len(_COOKING), _cooking),
}
FAMILIES = tuple(_FAMILIES)


def check_game(name: str) -> tuple[str, int]:
    """Return family and level of `coin_collector-l5`. Raises `ConfigError`."""
    match = _GAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"'{name}' is no game. Write a family and a level, for example {DEFAULT_GAMES[0]}.")
    family, level = match["family"], int(match["level"])
    if family not in _FAMILIES:
        raise ConfigError(f"There is no family of games '{family}'.{did_you_mean(family, FAMILIES)}")
    highest = _FAMILIES[family][0]
    if level > highest:
        raise ConfigError(f"{family} has levels 1 to {highest}, not {level}.")
    num_rooms = ((level - 1) // 100 + 1) * ((level - 1) % 100 + 1)
    if family == "coin_collector" and num_rooms > MAX_ROOMS:
        raise ConfigError(f"Level {level} of {family} has {num_rooms} rooms, more than the {MAX_ROOMS} that compile.")
    return family, level


def read_task(task_id: str) -> Task:
    """Return the task of an id, in a panel or not. Raises `DataError`."""
    match = _TASK.fullmatch(task_id)
    if match is None:
        raise DataError(f"There is no task '{task_id}'; ids look like {Task('coin_collector', 5, 17).id}.")
    try:
        family, level = check_game(f"{match['family']}-l{match['level']}")
    except ConfigError as error:
        raise DataError(f"There is no task '{task_id}': {error}") from error
    return Task(family, level, int(match["seed"]))


def panel(games: Sequence[str], split: str, size: int) -> list[str]:
    """Return ids of the first `size` tasks of a split: the games in turns, then the next seed."""
    first = FIRST_TEST_SEED if split == "test" else 0
    kinds = [check_game(name) for name in games]
    return [Task(*kinds[i % len(kinds)], first + i // len(kinds)).id for i in range(size)]
