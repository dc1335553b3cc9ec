"""Lays rows that begin with the same tokens on one another: every shared prefix is in a packed pass once.

Rows in an order in which neighbours share the most are branches of trees: each one continues its neighbour's path of
tokens where the two part. So a row adds the tokens after that place, its own, to the pass, and its path leads over
tokens of earlier rows to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.trainers.batch.table import Row


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows of one shape, which attend together: `num_own` tokens of their own after `start` shared ones on their path.

    Example: the row [5 6 7] and its branch [5 6 8 9], packed as [5 6 7 8 9], are two tiles. The second one has `start`
    2, `num_own` 2 and `paths` [0 1 3 4].
    """

    num_rows: int
    start: int
    num_own: int
    paths: Tensor | None  # int64 [rows * (start + num_own)], packed tokens; None: the own ones, `start` is 0

    def to(self, device: torch.device) -> Tile:
        """Return the same tile on another device."""
        return replace(self, paths=None if self.paths is None else self.paths.to(device))


@dataclass(frozen=True, slots=True)
class Packed:
    """Tokens of a packed pass, tile after tile, and within a tile row after row."""

    positions: Tensor  # int64 [1, T], of each token in its own row
    tiles: tuple[Tile, ...]
    masks: dict[int | None, Tensor] = field(default_factory=dict)  # of attention, by window, which all layers share

    @property
    def longest(self) -> int:
        """Return the number of tokens on the longest path."""
        return max(tile.start + tile.num_own for tile in self.tiles)

    def to(self, device: torch.device) -> Packed:
        """Return the same tokens on another device."""
        return Packed(self.positions.to(device), tuple(tile.to(device) for tile in self.tiles))


@dataclass(frozen=True, slots=True)
class Branch:
    """A row as a branch: `start` tokens of it are the first ones of the row before it, and so no own ones."""

    row: Row
    start: int

    @property
    def length(self) -> int:
        """Tokens that the row feeds: all but its last, which is only a target."""
        return len(self.row.ids) - 1

    @property
    def num_own(self) -> int:
        return self.length - self.start


def branches(rows: Sequence[Row]) -> list[Branch]:
    """Return the rows in an order in which each shares with the one before it what it shares with any earlier one."""
    found: list[Branch] = []
    fed = np.zeros(0, dtype=np.int64)
    for row in sorted(rows, key=lambda row: row.ids[:-1].tobytes()):
        before, fed = fed, row.ids[:-1]
        found.append(Branch(row, _num_common(before, fed)))
    return found


def parts(found: Sequence[Branch], budget: int) -> Iterator[list[Branch]]:
    """Cut the branches into passes of at most `budget` tokens; the first of each feeds its prefix again.

    A row that is longer than the budget gets a pass of its own, with those that add nothing to it.
    """
    part: list[Branch] = []
    used = 0
    for branch in found:
        if part and used + branch.num_own > budget:
            yield part
            part = []
        if not part:
            branch = Branch(branch.row, 0)
            used = 0
        part.append(branch)
        used += branch.num_own
    if part:
        yield part


def plant(part: Sequence[Branch]) -> tuple[Packed, np.ndarray, list[np.ndarray]]:
    """Return the tokens of a pass, their ids [T], and the path of each branch through them, [its length]."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for number, branch in enumerate(part):
        if branch.num_own:
            shapes.setdefault((branch.start, branch.num_own), []).append(number)
    ordered = [number for numbers in shapes.values() for number in numbers]
    offsets = np.cumsum([0, *(part[number].num_own for number in ordered)])
    first = {number: int(offset) for number, offset in zip(ordered, offsets, strict=False)}
    paths: list[np.ndarray] = []
    for number, branch in enumerate(part):
        own = np.arange(branch.num_own) + first.get(number, 0)
        paths.append(np.concatenate([paths[-1][: branch.start], own]) if branch.start else own)
    ids = np.concatenate([part[number].row.ids[part[number].start : -1] for number in ordered])
    positions = np.concatenate([np.arange(part[number].start, part[number].length) for number in ordered])
    tiles = []
    for (start, num_own), numbers in shapes.items():
        led = torch.from_numpy(np.concatenate([paths[number] for number in numbers])) if start else None
        tiles.append(Tile(len(numbers), start, num_own, led))
    return Packed(torch.from_numpy(positions)[None], tuple(tiles)), ids, paths


def _num_common(a: np.ndarray, b: np.ndarray) -> int:
    shorter = min(len(a), len(b))
    differs = a[:shorter] != b[:shorter]
    return int(differs.argmax()) if differs.any() else shorter
