"""Random draws that are the same on every platform and in every version of Python and numpy."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

GENERATOR_VERSION = 1  # rises whenever a generated game changes; every pinned hash changes with it
_BLOCK = 512

T = TypeVar("T")


class Draws:
    """Draws from uniform numbers that are seeded by a text key. `uniform()` gives the next one, in [0, 1).

    Only raw PCG64 words are used: numpy keeps those stable for ever, unlike the methods of its `Generator`.
    """

    __slots__ = ("uniform",)

    def __init__(self, key: str) -> None:
        self.uniform: Callable[[], float] = _uniforms(f"{GENERATOR_VERSION}:{key}").__next__

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(self.uniform() * n)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.uniform() < probability

    def one(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self.uniform() * len(items))]

    def some(self, items: Sequence[T], number: int) -> list[T]:
        """Return different items in random order: `number` of them, or all if there are fewer."""
        pool = list(items)
        for i in range(min(number, len(pool))):
            j = i + int(self.uniform() * (len(pool) - i))
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:number]

    def weighted(self, cumulative: Sequence[float]) -> int:
        """Return an index, with probability proportional to the steps of the cumulative weights."""
        return bisect_right(cumulative, self.uniform() * cumulative[-1])

    def spread(self) -> float:
        """Return a number that is nearly normal, with mean 0 and standard deviation 1, within -3 and 3."""
        uniform = self.uniform
        return 2.0 * (uniform() + uniform() + uniform() - 1.5)


def _uniforms(key: str) -> Iterator[float]:
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big"))
    while True:
        block = ((bits.random_raw(_BLOCK) >> np.uint64(11)) * 2.0**-53).tolist()
        while block:
            yield block.pop()
