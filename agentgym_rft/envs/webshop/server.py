"""Sessions by number or name, as the original's environment opens them."""

from __future__ import annotations

import random
import string
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agentgym_rft.envs.webshop.goal_list import Goals, weighted_index
from agentgym_rft.envs.webshop.session import Session, Shop
from agentgym_rft.envs.webshop.splits import shuffled
from agentgym_rft.errors import DataError

_SHUFFLE = 233  # the original's seed
_NAME_LENGTH = 10


class SessionServer:
    """Opens sessions: a number is a position in the shuffled goals, a name or none a goal drawn by weight.

    A name that is known keeps its goal. Unlike the original it keeps no sessions, and draws from its own generator.

    Args:
        shop: what the sessions share; its pricing has to be that of the goals.
        goals: all goals, of templates or of people.
        seed: of the draws.
    """

    def __init__(self, shop: Shop, goals: Goals, seed: int = 0) -> None:
        self._shop = shop
        self._goals = goals
        self._order = shuffled(len(goals), _SHUFFLE)
        self._rng = random.Random(seed)
        self._named: dict[str, int] = {}

    def open(self, session: int | str | None = None) -> Session:
        """Return a new session on the first page. Raises `DataError` for a number without a goal."""
        if isinstance(session, int):
            if not 0 <= session < len(self._order):
                raise DataError(f"There is no goal {session}; there are {len(self._order)}, from 0.")
            return self._session(session, str(session))
        if session is None:
            name = "".join(self._rng.choices(string.ascii_lowercase, k=_NAME_LENGTH))
            return self._session(weighted_index(self._weights, self._rng), name)
        if session not in self._named:
            self._named[session] = weighted_index(self._weights, self._rng)
        return self._session(self._named[session], session)

    def _session(self, position: int, name: str) -> Session:
        return Session(self._shop, self._goals[int(self._order[position])], name)

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return self._goals.weights()[self._order]
