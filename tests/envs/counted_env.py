"""The counter of `counter_env` with an expert and an oracle."""

from __future__ import annotations

import numpy as np

from tests.envs.counter_env import CounterEnv


class Up:
    """Says up."""

    def act(self, observation: str) -> str:
        return "up"


class Counted(CounterEnv):
    """The counter with its players."""

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Up:
        return Up()

    def oracle(self) -> Up:
        return Up()
