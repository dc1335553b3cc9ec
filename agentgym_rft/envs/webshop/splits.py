"""Divides goals into training and test splits: by position in a shuffled list, or by content."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from agentgym_rft.envs.webshop.goal_list import Goals, RowTable

SPLITS = ("train", "dev", "test")
Indexes = NDArray[np.int64]
_SALT = np.uint64(26)  # of the drawing of queries; this one gives the embedded shop the shares that are asked for


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions `start` to `stop` of the goals, shuffled with `random.Random(seed)`."""

    seed: int
    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the product types (queries) whose goals are for dev and test; the others are for training."""

    dev: float
    test: float


SplitRule = Mapping[str, Positions] | Shares


def make_splits(rule: SplitRule, goals: Goals, table: RowTable) -> dict[str, Indexes]:
    """Return the goals of each split in their frozen order."""
    return _by_share(rule, goals, table) if isinstance(rule, Shares) else _by_position(rule, len(goals))


def shuffled(number: int, seed: int) -> Indexes:
    """Return 0 to `number`-1 in the order that `random.Random(seed).shuffle` gives a list of that length."""
    order = list(range(number))
    random.Random(seed).shuffle(order)
    return np.array(order, np.int64)


def _by_position(rule: Mapping[str, Positions], number: int) -> dict[str, Indexes]:
    """Return slices of shuffled lists. Where one would be empty, every split is all goals.

    The latter is what the original's wrapper does for its small sets.
    """
    parts = {split: shuffled(number, part.seed)[part.start : part.stop] for split, part in rule.items()}
    if all(len(part) for part in parts.values()):
        return parts
    return {split: shuffled(number, part.seed) for split, part in rule.items()}


def _by_share(rule: Shares, goals: Goals, table: RowTable) -> dict[str, Indexes]:
    """Return all goals of one query are in one split; in it they are in an order of which any first part is a fair
    sample.
    """
    rows = goals.rows()
    place = _mixed(table.query_hash[rows] ^ _SALT).astype(np.float64) / 2.0**64
    order = np.argsort(_mixed(table.asin_hash[rows] + _rank_in_run(rows)))
    is_test, is_dev = place < rule.test, (place >= rule.test) & (place < rule.test + rule.dev)
    masks = {"train": ~(is_test | is_dev), "dev": is_dev, "test": is_test}
    return {split: order[mask[order]] for split, mask in masks.items()}


def _rank_in_run(rows: Indexes) -> NDArray[np.uint64]:
    """Return for each goal its place in its run of equal rows."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    firsts = np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return (np.arange(len(rows)) - firsts).astype(np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64-bit values whose order is unlike that of the given ones (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class TaskIds(Sequence[str]):
    """The task ids of a split, made when they are asked for."""

    def __init__(self, indexes: Indexes, name: Callable[[int], str]) -> None:
        self._indexes = indexes
        self._name = name

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._name(int(goal)) for goal in self._indexes[index]]
        return self._name(int(self._indexes[index]))
