"""Rooms made from a seed: random walls, targets and boxes, kept if a shortest solution is long enough."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from agentgym_rft.envs.draws import Draws
from agentgym_rft.envs.generated import in_test
from agentgym_rft.envs.sokoban.room import Position, Room, bits, canonical, rows, shift
from agentgym_rft.envs.sokoban.solver import live_cells, solve
from agentgym_rft.errors import ConfigError, DataError

VERSION = 1  # rises whenever a generated level changes
SPLIT_SIZES = {"train": 2000, "test": 200}
MIN_SIZE, MAX_SIZE, MAX_BOXES = 5, 12, 5
_TEST_ONE_IN = 11
_WALL_SHARE = 0.15
_MAX_TRIES = 3000
_MAX_NODES = 3000  # of one search while generating: a level that needs more is not used
_TASK_ID = re.compile(r".+/(train|test)/(0|[1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Kind:
    """The settings that all levels of an environment share. Sizes include the surrounding walls."""

    width: int
    height: int
    boxes: int
    difficulty: int

    def __post_init__(self) -> None:
        for name, size in (("width", self.width), ("height", self.height)):
            if not MIN_SIZE <= size <= MAX_SIZE:
                raise ConfigError(f"{name} is {size}; expected {MIN_SIZE} to {MAX_SIZE}, walls included.")
        inner = (self.width - 2) * (self.height - 2)
        most = min(MAX_BOXES, inner // 4)
        if not 1 <= self.boxes <= most:
            raise ConfigError(f"boxes is {self.boxes}; expected 1 to {most} in a {self.width}x{self.height} room.")
        if self.difficulty < 1:
            raise ConfigError(f"difficulty is {self.difficulty}; expected at least 1 move.")

    def task_id(self, split: str, seed: int) -> str:
        """Return the id of a level; it contains all that defines the level."""
        return f"v{VERSION}/{self.width}x{self.height}-{self.boxes}box-{self.difficulty}/{split}/{seed}"


@dataclass(frozen=True, slots=True)
class Level:
    """A solvable level and the length of its shortest solution."""

    room: Room
    start: Position
    num_moves: int

    def content(self) -> bytes:
        """Return equal for turned and mirrored copies."""
        return canonical(rows(self.room, self.start))


def parse_task_id(kind: Kind, task_id: str) -> tuple[str, int]:
    """Split and seed. Raises `DataError` unless the id is one of this kind of level."""
    match = _TASK_ID.fullmatch(task_id)
    if match is not None:
        split, seed = match[1], int(match[2])
        if seed < SPLIT_SIZES[split] and kind.task_id(split, seed) == task_id:
            return split, seed
    raise DataError(f"There is no task '{task_id}'; expected one like '{kind.task_id('train', 0)}'.")


@functools.lru_cache(maxsize=4096)
def make_level(kind: Kind, split: str, seed: int) -> Level:
    """Return the level of a seed.

    Which split a layout belongs to is decided by its content without the player, up to symmetry: train and test share
    no layout, whatever their sizes. Raises `ConfigError` where such levels are too rare to be found.
    """
    draws = Draws(f"sokoban {VERSION} {kind.task_id(split, seed)}")
    for _ in range(_MAX_TRIES):
        placed = _place(kind, draws)
        if placed is None:
            continue
        room, start = placed
        layout = canonical(rows(room, Position(0, start.boxes)))
        if in_test(layout, _TEST_ONE_IN) != (split == "test"):
            continue
        plan = solve(room, start, _MAX_NODES)
        if plan is not None and plan.num_moves >= kind.difficulty:
            return Level(room, start, plan.num_moves)
    raise ConfigError(
        f"No level of {kind.width}x{kind.height} with {kind.boxes} boxes and a shortest solution of at least "
        f"{kind.difficulty} moves was found; ask for a lower difficulty or a larger room."
    )


def _place(kind: Kind, draws: Draws) -> tuple[Room, Position] | None:
    """Return a random room and start, solvable or not; None if the walls leave too little space."""
    floor = _largest_part(_random_floor(kind, draws), kind.width)
    if floor.bit_count() < 3 * kind.boxes + 2:
        return None
    targets = _choose(floor, kind.boxes, draws)
    room = Room(kind.width, kind.height, floor, targets)
    live = live_cells(room) & ~targets
    if live.bit_count() < kind.boxes:
        return None
    boxes = _choose(live, kind.boxes, draws)
    return room, Position(_choose(floor & ~boxes, 1, draws), boxes)


def _random_floor(kind: Kind, draws: Draws) -> int:
    cells = (y * kind.width + x for y in range(1, kind.height - 1) for x in range(1, kind.width - 1))
    return sum(1 << cell for cell in cells if draws.uniform() >= _WALL_SHARE)


def _largest_part(floor: int, width: int) -> int:
    """Return the largest connected part of the floor; the lowest cells break a tie."""
    best = 0
    while floor:
        part, grown = 0, floor & -floor
        while grown != part:
            part = grown
            for step in (-width, width, -1, 1):
                grown |= shift(part, step) & floor
        floor ^= part
        if part.bit_count() > best.bit_count():
            best = part
    return best


def _choose(mask: int, number: int, draws: Draws) -> int:
    """Return that many different cells of a mask."""
    cells = list(bits(mask))
    return sum(cells.pop(draws.below(len(cells))) for _ in range(number))
