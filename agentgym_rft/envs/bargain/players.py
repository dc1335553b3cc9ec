"""A scripted negotiator, which knows only what it reads."""

from __future__ import annotations

import numpy as np

from agentgym_rft.envs.bargain.instances import KINDS, TOTAL, Amounts, rest_of, worth
from agentgym_rft.envs.bargain.language import items_text, read_offer, read_opening, read_turns
from agentgym_rft.envs.bargain.optima import divisions
from agentgym_rft.errors import EnvError

RESERVE = 4  # what it still asks for in its last turn


class Negotiator:
    """Asks for 10 at first and concedes evenly down to `RESERVE` in its last own turn.

    It accepts what is worth as much as it asks for, and in the last turn of all whatever is worth something. Of the
    divisions that give it what it asks for it offers the one that leaves most to the other agent, whose values it
    guesses from what that agent kept for itself in its offers. At rate `noise` it offers any division that is worth
    something to it.

    Source: linear time-dependent concession as in Faratin, Sierra and Jennings, Negotiation Decision Functions for
    Autonomous Agents, Robotics and Autonomous Systems 24, 1998, section 4.1. The guess of the other's values is ours.
    """

    def __init__(self, rng: np.random.Generator, noise: float = 0.0) -> None:
        self._rng, self._noise = rng, noise
        self._counts: Amounts = (0, 0, 0)
        self._values: Amounts = (0, 0, 0)
        self._num_own_turns = 0
        self._interest = [1.0] * len(KINDS)  # a guess of what one of each kind is worth to the other agent

    def act(self, observation: str) -> str:
        """Return `accept` or an offer. Raises `EnvError` if the first observation does not tell items and values."""
        opening, turns = read_opening(observation), read_turns(observation)
        if opening is not None:
            self._counts, self._values = opening
            self._num_own_turns = ((turns or 1) + 1) // 2
        if not any(self._counts) or turns is None:
            raise EnvError("The observation does not tell the items, the values and the turns that are left.")
        offered = read_offer(observation)
        if offered is not None:
            self._learn(rest_of(self._counts, offered))
        if self._rng.random() < self._noise:
            return self._offer(0, is_random=True)
        asked = self._asked(turns)
        value = worth(self._values, offered) if offered is not None else 0
        if offered is not None and (value >= asked or (turns == 1 and value > 0)):
            return "accept"
        return self._offer(asked)

    def _asked(self, turns: int) -> float:
        """Return the least worth that a deal must have now."""
        own_left = (turns + 1) // 2 - 1  # own turns after this one
        share = own_left / (self._num_own_turns - 1) if self._num_own_turns > 1 else 0.0
        return RESERVE + (TOTAL - RESERVE) * share

    def _learn(self, kept: Amounts) -> None:
        for index, count in enumerate(self._counts):
            self._interest[index] += kept[index] / count

    def _offer(self, asked: float, *, is_random: bool = False) -> str:
        enough = [d for d in divisions(self._counts) if worth(self._values, d) >= max(asked, 1)]
        if is_random:
            return f"offer: {items_text(enough[int(self._rng.integers(len(enough)))])}"

        def left(division: Amounts) -> float:
            return sum(i * n for i, n in zip(self._interest, rest_of(self._counts, division), strict=True))

        return f"offer: {items_text(max(enough, key=lambda d: (left(d), worth(self._values, d))))}"
