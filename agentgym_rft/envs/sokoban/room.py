"""Rooms as bit masks: bit `y * width + x` is a cell. A wall surrounds the room, so a shift never leaves the grid."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from agentgym_rft.errors import DataError

WALL, FLOOR, TARGET, BOX, PLAYER, BOX_ON_TARGET, PLAYER_ON_TARGET = "#_.$@*+"
SYMBOLS = frozenset("#_.$@*+")
DIRECTIONS = ("up", "down", "left", "right")


class Position(NamedTuple):
    """The state of a level: the cell of the player and the cells of the boxes, both as masks."""

    player: int
    boxes: int


@dataclass(frozen=True, slots=True)
class Room:
    """The fixed part of a level: the size, the cells that are no wall, and the targets."""

    width: int
    height: int
    floor: int
    targets: int

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """The shift of each of `DIRECTIONS`; negative is towards lower bits."""
        return (-self.width, self.width, -1, 1)


def shift(mask: int, step: int) -> int:
    """Return the cells of a mask moved by a step."""
    return mask << step if step > 0 else mask >> -step


def bits(mask: int) -> Iterator[int]:
    """Yield the single cells of a mask, each as a mask, lowest first."""
    while mask:
        low = mask & -mask
        yield low
        mask ^= low


def move(room: Room, position: Position, step: int) -> Position | None:
    """Return the position after a move, which may push one box; None if a wall or a second box is in the way."""
    player = shift(position.player, step)
    if not player & room.floor:
        return None
    if not player & position.boxes:
        return Position(player, position.boxes)
    behind = shift(player, step)
    if not behind & room.floor or behind & position.boxes:
        return None
    return Position(player, position.boxes ^ player ^ behind)


def rows(room: Room, position: Position) -> list[str]:
    """Return the grid, a string for each row."""
    cells = list(_empty(room))
    for box in bits(position.boxes):
        cells[box.bit_length() - 1] = BOX_ON_TARGET if box & room.targets else BOX
    if position.player:
        is_on_target = position.player & room.targets
        cells[position.player.bit_length() - 1] = PLAYER_ON_TARGET if is_on_target else PLAYER
    text = "".join(cells)
    return [text[at : at + room.width] for at in range(0, len(text), room.width)]


@functools.lru_cache(maxsize=1024)
def _empty(room: Room) -> str:
    """Return the symbols of walls, floor and targets, row after row."""
    symbols = []
    for index in range(room.width * room.height):
        cell = 1 << index
        symbols.append(TARGET if room.targets & cell else FLOOR if room.floor & cell else WALL)
    return "".join(symbols)


def parse(lines: list[str]) -> tuple[Room, Position]:
    """Return the room and position of a grid, which `rows` writes.

    Raises `DataError` unless the grid is a rectangle within walls with one player and as many boxes as targets.
    """
    width, text = len(lines[0]) if lines else 0, "".join(lines)
    if not width or any(len(line) != width for line in lines) or not set(text) <= SYMBOLS:
        raise DataError("The grid is no rectangle of the symbols '#_.$@*+'.")
    edge = lines[0] + lines[-1] + "".join(line[0] + line[-1] for line in lines)
    if set(edge) != {WALL}:
        raise DataError("The grid is not surrounded by walls.")

    def cells(symbols: str) -> int:
        return sum(1 << index for index, symbol in enumerate(text) if symbol in symbols)

    room = Room(width, len(lines), cells("_.$@*+"), cells(".*+"))
    position = Position(cells("@+"), cells("$*"))
    if position.player.bit_count() != 1 or position.boxes.bit_count() != room.targets.bit_count():
        raise DataError("The grid needs one player and as many boxes as targets.")
    return room, position


def canonical(lines: list[str]) -> bytes:
    """Return the same bytes for a grid and its turned and mirrored copies."""
    turned = ["".join(column) for column in zip(*lines, strict=True)]
    forms = []
    for grid in (lines, turned):
        for vertical in (grid, grid[::-1]):
            forms += ["\n".join(vertical), "\n".join(row[::-1] for row in vertical)]
    return min(forms).encode()
