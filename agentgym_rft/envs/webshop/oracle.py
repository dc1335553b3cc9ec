"""A customer that knows the goal's product and its options: what bounds a score from above."""

from __future__ import annotations

import re

from agentgym_rft.envs.webshop.players import BACK, BUY, NEXT, PREVIOUS
from agentgym_rft.envs.webshop.products import Product
from agentgym_rft.envs.webshop.reward import count_options
from agentgym_rft.envs.webshop.session import PAGE_SIZE, Session
from agentgym_rft.errors import EnvError

_NOT_A_WORD = re.compile(r"[^\w'&-]+")


class OraclePlayer:
    """Searches words that find the product, opens it, chooses the options, and buys. It looks into the session.

    Args:
        session: the one that is played, in any state.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._words: list[str] = []
        self._number = 0  # page of results that lists the product under these words

    def act(self, observation: str) -> str:
        """The next action. Raises `EnvError` if no search finds the product."""
        session, state = self._session, self._session.snapshot()
        if state["page"] == "index":
            return f"search[{' '.join(self._plan())}]"
        if state["page"] == "search_results":
            return self._to_product(state["words"], state["number"])
        if state["asin"] != session.goal.asin or state["page"] != "item_page":
            return PREVIOUS
        return self._options(session.shop.catalog.product(session.goal.asin), state["options"])

    def _plan(self) -> list[str]:
        """The first search that has the product on its first page, else the one that ranks it best."""
        if not self._words:
            goal = self._session.goal
            texts = (goal.query, f"{goal.query} {' '.join(goal.attributes)}", goal.instruction, goal.title)
            searches = [words for text in texts if (words := _search_words(text))]
            ranks = [self._rank(words) for words in searches]
            found = [rank for rank in ranks if rank is not None]
            if not found:
                raise EnvError(f"No search finds product '{goal.asin}' among the first results.")
            rank = next((rank for rank in found if rank < PAGE_SIZE), min(found))
            self._words, self._number = searches[ranks.index(rank)], 1 + rank // PAGE_SIZE
        return self._words

    def _rank(self, words: list[str]) -> int | None:
        catalog = self._session.shop.catalog
        rows = catalog.find(words)
        row = catalog.store.row_of(self._session.goal.asin)
        return rows.index(row) if row in rows else None

    def _to_product(self, words: list[str], number: int) -> str:
        asin = self._session.goal.asin.lower()
        if asin in self._session.available_actions()["clickables"]:
            return f"click[{asin}]"
        if words != self._plan():
            return BACK
        return NEXT if number < self._number else PREVIOUS

    def _options(self, product: Product, chosen: dict[str, str]) -> str:
        """Choose the first option that is still wanted, and buy after the last one."""
        goal = self._session.goal
        for wanted in goal.options:
            if isinstance(wanted, tuple):
                group, value = wanted
                if chosen.get(group) != value and any(value in values for _, values in product.options):
                    return f"click[{value}]"
            elif not count_options([wanted], chosen):
                value = _value_like(product, wanted)
                if value:
                    return f"click[{value}]"
        return BUY


def _search_words(text: str) -> list[str]:
    """The words of a text without brackets, which would end the search early, in lower case as the shop makes them."""
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def _value_like(product: Product, wanted: str) -> str:
    """The option value that counts as the wanted one, an equal one before a similar one; empty if there is none."""
    values = [value for _, values in product.options for value in values]
    if wanted.lower() in values:
        return wanted.lower()
    return next((value for value in values if count_options([wanted], {"": value})), "")
