"""The items that are divided: three kinds, with values that each of two agents knows only for itself.

As in Lewis et al. 2017, Deal or No Deal, arXiv 1706.05125, section 2: books, hats and balls, 5 to 7 in all, all of them
worth 10 to each agent, every kind worth something to one and some kind to both. Ours are at least 1 and at most 4 of a
kind, and the two agents' values differ, so that the best division is worth more than 10 in all.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product

from agentgym_rft.errors import DataError

VERSION = 1  # rises whenever a split changes
KINDS = ("book", "hat", "ball")
TOTAL = 10
MAX_COUNT = 4
SPLIT_SIZES = {"train": 2000, "test": 500}
Amounts = tuple[int, int, int]  # of books, hats, balls
_TASK_ID = re.compile(r"v(\d)/(\d)-(\d)-(\d)/(\d\d?)-(\d\d?)-(\d\d?)/(\d\d?)-(\d\d?)-(\d\d?)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """Items, and what one of each kind is worth to either agent."""

    counts: Amounts
    values: tuple[Amounts, Amounts]

    @property
    def task_id(self) -> str:
        """`v1/`, the counts, the values of agent_1 and those of agent_2: `v1/1-4-1/0-1-6/4-1-2`."""
        parts = ("-".join(map(str, amounts)) for amounts in (self.counts, *self.values))
        return f"v{VERSION}/{'/'.join(parts)}"

    def content(self) -> bytes:
        """Return the same for an instance and the one with the seats exchanged, so no two splits share a game."""
        first, second = sorted(self.values)
        return repr((self.counts, first, second)).encode()


def worth(values: Amounts, items: Amounts) -> int:
    """Return the worth of items to an agent with these values."""
    return sum(value * number for value, number in zip(values, items, strict=True))


def rest_of(counts: Amounts, items: Amounts) -> Amounts:
    """Return the items that are left for the other agent."""
    book, hat, ball = (count - number for count, number in zip(counts, items, strict=True))
    return book, hat, ball


def instance_of(task_id: str) -> Instance:
    """Return the instance of a task id, of a split or not. Raises `DataError` for another text, or for broken rules."""
    match = _TASK_ID.fullmatch(task_id)
    if match is not None and int(match[1]) == VERSION:
        numbers = [int(number) for number in match.groups()[1:]]
        instance = Instance(_triple(numbers[:3]), (_triple(numbers[3:6]), _triple(numbers[6:])))
        if instance.task_id == task_id and is_feasible(instance):
            return instance
    raise DataError(f"There is no task '{task_id[:80]}'; expected one like '{splits()['train'][0]}'.")


def is_feasible(instance: Instance) -> bool:
    """Return whether an instance keeps the rules above."""
    first, second = instance.values
    pairs = list(zip(first, second, strict=True))
    return (
        all(1 <= count <= MAX_COUNT for count in instance.counts)
        and 5 <= sum(instance.counts) <= 7
        and worth(first, instance.counts) == worth(second, instance.counts) == TOTAL
        and first != second
        and all(a or b for a, b in pairs)
        and any(a and b for a, b in pairs)
    )


@functools.cache
def splits() -> Mapping[str, tuple[str, ...]]:
    """Return the task ids of each split: of all instances, in the order of a hash of their content, the first ones.

    Of an instance and the one with the seats exchanged, only one is taken; which, the hash decides.
    """
    ordered = sorted((hashlib.sha256(instance.content()).digest(), instance) for instance in _all_instances())
    ids = [
        (Instance(instance.counts, instance.values[::-1]) if digest[-1] % 2 else instance).task_id
        for digest, instance in ordered
    ]
    train = SPLIT_SIZES["train"]
    return {"train": tuple(ids[:train]), "test": tuple(ids[train : train + SPLIT_SIZES["test"]])}


def _all_instances() -> list[Instance]:
    """Return every instance once, without those with the seats exchanged."""
    found = []
    for counts in product(range(1, MAX_COUNT + 1), range(1, MAX_COUNT + 1), range(1, MAX_COUNT + 1)):
        if 5 <= sum(counts) <= 7:
            each = range(TOTAL + 1)
            all_values = [values for values in product(each, each, each) if worth(values, counts) == TOTAL]
            found += [Instance(counts, pair) for pair in combinations(all_values, 2)]
    return [instance for instance in found if is_feasible(instance)]


def _triple(numbers: list[int]) -> Amounts:
    book, hat, ball = numbers
    return book, hat, ball
