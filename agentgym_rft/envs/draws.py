"""Random draws that are the same on every platform and in every version of Python and numpy."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

GENERATOR_VERSION = 1  # rises whenever a generated game changes; every pinned hash changes with it
_BLOCK = 512


class Draws:
    """Uniform numbers seeded by a text key.

    Only raw PCG64 words are used: numpy keeps those stable for ever, unlike the methods of its `Generator`.
    """

    __slots__ = ("_bits", "_pool")

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(f"{GENERATOR_VERSION}:{key}".encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))
        self._pool: list[float] = []

    def uniform(self) -> float:
        """One number in [0, 1)."""
        if not self._pool:
            raw = self._bits.random_raw(_BLOCK)
            self._pool = ((raw >> np.uint64(11)) * 2.0**-53).tolist()
        return self._pool.pop()

    def below(self, n: int) -> int:
        """One integer in [0, n)."""
        return int(self.uniform() * n)

    def pick(self, cumulative: Sequence[float]) -> int:
        """One index, with probability proportional to the steps of the cumulative weights."""
        return bisect_right(cumulative, self.uniform() * cumulative[-1])
