"""Random draws of the generator, the same on every platform and in every version of Python."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

CATALOG_VERSION = 1  # rises whenever a generated product, instruction or cluster changes


class Draws:
    """Uniform numbers seeded by a text key.

    Only `random.Random.random` is used, whose sequence for a seed of type str Python keeps in all versions; the other
    methods of that class may change.
    """

    __slots__ = ("uniform",)

    def __init__(self, seed: int, what: str, number: int) -> None:
        self.uniform = random.Random(f"webshop:{CATALOG_VERSION}:{seed}:{what}:{number}").random

    def below(self, n: int) -> int:
        """One integer in [0, n)."""
        return int(self.uniform() * n)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def one(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self.uniform() * len(items))]

    def some(self, items: Sequence[T], number: int) -> list[T]:
        """Different items in random order: `number` of them, or all if there are fewer."""
        pool = list(items)
        for i in range(min(number, len(pool))):
            j = i + int(self.uniform() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:number]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """One index, with probability proportional to the steps of the cumulative weights."""
        return bisect_right(cumulative, self.uniform() * cumulative[-1])

    def spread(self) -> float:
        """A number that is nearly normal, with mean 0 and standard deviation 1, within -3 and 3."""
        uniform = self.uniform
        return 2.0 * (uniform() + uniform() + uniform() - 1.5)
