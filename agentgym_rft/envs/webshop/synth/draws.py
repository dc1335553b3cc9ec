"""Random draws of the generator, the same on every platform and in every version of Python."""

from __future__ import annotations

import random

from agentgym_rft.envs import draws

CATALOG_VERSION = 1  # rises whenever a generated product, instruction or cluster changes


class Draws(draws.Draws):
    """Draws from the numbers of `random.Random.random`, whose sequence for a seed of type str Python keeps for ever.

    Each product seeds several of these, and they take half as long to seed as the others.
    """

    __slots__ = ()

    def __init__(self, seed: int, what: str, number: int) -> None:
        self.uniform = random.Random(f"webshop:{CATALOG_VERSION}:{seed}:{what}:{number}").random
