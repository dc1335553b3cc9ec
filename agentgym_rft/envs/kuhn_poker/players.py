"""Scripted players of Kuhn poker."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from agentgym_rft.errors import EnvError

_CARD = re.compile(r"Your card is (jack|queen|king)\.")


class StrategyPlayer:
    """Plays a strategy of `theory`: it bets with the probability of the information set that it reads."""

    def __init__(self, seat: int, strategy: Mapping[str, float], rng: np.random.Generator) -> None:
        self._seat, self._strategy, self._rng = seat, strategy, rng
        self._card = ""

    def act(self, observation: str) -> str:
        """Return `bet` or `pass`. Raises `EnvError` if the first observation does not name the card."""
        found = _CARD.search(observation)
        if found is not None:
            self._card = found[1][0].upper()
        if not self._card:
            raise EnvError("The observation does not say which card this player has.")
        is_facing_bet = "The other player bets." in observation
        moves = ("pb" if is_facing_bet else "") if self._seat == 1 else ("b" if is_facing_bet else "p")
        return "bet" if self._rng.random() < self._strategy[self._card + moves] else "pass"


class MindReader:
    """Bets if its card is the higher one, else passes."""

    def __init__(self, is_higher: bool) -> None:
        self._is_higher = is_higher

    def act(self, observation: str) -> str:
        """Return `bet` or `pass`."""
        return "bet" if self._is_higher else "pass"
