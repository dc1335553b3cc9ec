"""Lays rows that begin with the same tokens on one another: every shared prefix is in a packed pass once.

Rows in an order in which neighbours share the most are branches of trees: each one continues its neighbour's path of
tokens where the two part. So a row adds the tokens after that place, its own, to the pass, and its path leads over
tokens of earlier rows to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.trainers.batch.table import Row


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows whose own tokens attend in one call, as padded rows of `shape` (rows, most own tokens, longest path).

    Example: the row [5 6 7] and its branch [5 6 8 9], packed as [5 6 7 8 9], are two tiles, since the first one has no
    path before its own tokens. The second tile: `shape` (1, 2, 4), `start` 2, `places` [0 1], `paths` [0 1 3 4], and
    `newest` [[2 3]].
    """

    shape: tuple[int, int, int]
    start: int  # most tokens on a path before a row's own ones
    places: Tensor  # int64, of the own tokens in the flattened [rows * most own tokens]
    paths: Tensor | None  # int64 [rows * longest path], packed tokens; None: own tokens are all that they see
    newest: Tensor  # int64 [rows, most own tokens], the last place on the path that each token sees: its own
    masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)  # of attention, which all layers share

    def to(self, device: torch.device) -> Tile:
        """Return the same tile on another device."""
        paths = None if self.paths is None else self.paths.to(device)
        return Tile(self.shape, self.start, self.places.to(device), paths, self.newest.to(device))


@dataclass(frozen=True, slots=True)
class Packed:
    """Tokens of a packed pass, tile after tile, and within a tile row after row."""

    positions: Tensor  # int64 [1, T], of each token in its own row
    tiles: tuple[Tile, ...]

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
    tiles = list(_tiles(part))
    ordered = [number for tile in tiles for number in tile]
    offsets = np.cumsum([0, *(part[number].num_own for number in ordered)])
    first = {number: int(offset) for number, offset in zip(ordered, offsets, strict=False)}
    paths: list[np.ndarray] = []
    for number, branch in enumerate(part):
        own = np.arange(branch.num_own) + first.get(number, 0)
        paths.append(np.concatenate([paths[-1][: branch.start], own]) if branch.start else own)
    ids = np.concatenate([part[number].row.ids[part[number].start : -1] for number in ordered])
    positions = np.concatenate([np.arange(part[number].start, part[number].length) for number in ordered])
    laid = tuple(_tile([part[number] for number in tile], [paths[number] for number in tile]) for tile in tiles)
    return Packed(torch.from_numpy(positions)[None], laid), ids, paths


def _num_common(a: np.ndarray, b: np.ndarray) -> int:
    shorter = min(len(a), len(b))
    differs = a[:shorter] != b[:shorter]
    return int(differs.argmax()) if differs.any() else shorter


def _tiles(part: Sequence[Branch]) -> Iterator[list[int]]:
    """Deal branches with tokens of their own to tiles of about equal size, so that less than half is padding."""

    def area(number: int) -> int:
        return part[number].num_own * part[number].length

    for has_prefix in (False, True):
        numbers = [n for n, branch in enumerate(part) if branch.num_own and (branch.start > 0) == has_prefix]
        tile: list[int] = []
        widest = longest = 0
        for number in sorted(numbers, key=area, reverse=True):
            widest, longest = max(widest, part[number].num_own), max(longest, part[number].length)
            if tile and 2 * area(number) < widest * longest:
                yield tile
                tile, widest, longest = [], part[number].num_own, part[number].length
            tile.append(number)
        if tile:
            yield tile


def _tile(rows: Sequence[Branch], paths: Sequence[np.ndarray]) -> Tile:
    widest, longest = max(row.num_own for row in rows), max(row.length for row in rows)
    places = np.concatenate([np.arange(row.num_own) + number * widest for number, row in enumerate(rows)])
    starts, lengths = (np.array(values)[:, None] for values in zip(*((r.start, r.length) for r in rows), strict=True))
    newest = np.minimum(starts + np.arange(widest), lengths - 1)  # padding sees what is there, never nothing
    seen = None
    if starts.any():
        seen = np.zeros((len(rows), longest), dtype=np.int64)
        for number, path in enumerate(paths):
            seen[number, : len(path)] = path
    return Tile(
        shape=(len(rows), widest, longest),
        start=int(starts.max()),
        places=torch.from_numpy(places),
        paths=None if seen is None else torch.from_numpy(seen.reshape(-1)),
        newest=torch.from_numpy(newest),
    )
