"""A customer that knows the goal's product and its options: an upper bound of the score."""

from __future__ import annotations

from agentgym_rft.envs.webshop.planning import Planner
from agentgym_rft.envs.webshop.session import Session
from agentgym_rft.errors import EnvError


class OraclePlayer:
    """Searches words that find the product, opens it, chooses the options, and buys, by the shortest way.

    Args:
        session: the one that is played, in any state. The oracle looks into it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._planner = Planner(session.shop, session.goal)

    def act(self, observation: str) -> str:
        """Return the next action, planned anew for the page as it is.
        Raises `EnvError` if no search finds the product.
        """
        way = self._planner.best(self._session)
        if way is None:
            raise EnvError(f"No search finds product '{self._session.goal.asin}' among the first results.")
        return way.actions[0]
