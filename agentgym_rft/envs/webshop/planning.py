"""The shortest way to a perfect purchase from any page, planned with full knowledge of the shop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product as pairs
from typing import Any, NamedTuple

from agentgym_rft.envs.webshop.goals import Goal
from agentgym_rft.envs.webshop.pages import SUB_PAGES
from agentgym_rft.envs.webshop.players import BACK, BUY, NEXT, PREVIOUS
from agentgym_rft.envs.webshop.products import Product
from agentgym_rft.envs.webshop.reward import count_exact_options, count_options, judge
from agentgym_rft.envs.webshop.session import PAGE_SIZE, SEARCH, Session, Shop

_NOT_A_WORD = re.compile(r"[^\w'&-]+")
_BUTTONS = frozenset((SEARCH, "buy now", "back to search", "< prev", "next >", *(name.lower() for name in SUB_PAGES)))


class Way(NamedTuple):
    """Actions that end with buying. `wins`: the purchase is perfect; else it is the best that the reward can give."""

    actions: tuple[str, ...]
    wins: bool


@dataclass(frozen=True, slots=True)
class _Offer:
    """A product as the goal sees it.

    `is_fit`: all but the options is right. `choices`: by group, a value for each set of wanted options (bits) that a
    value of the group meets, the very value that is wanted before one that only counts as it.
    """

    is_fit: bool
    choices: Mapping[str, Mapping[int, str]]


class Planner:
    """Shortest ways of one goal. It remembers its search and the products that it was asked about."""

    def __init__(self, shop: Shop, goal: Goal) -> None:
        self._shop, self._goal = shop, goal
        self._count = count_exact_options if shop.strict_options else count_options
        self._offers: dict[str, _Offer] = {}
        self._fresh: list[Way] | None = None

    def best(self, session: Session) -> Way | None:
        """Return the shortest way that wins, from the page that a session shows; the session stays as it is.

        Searches are those of `search_texts`, so the way is the shortest there is if one of them has the product on its
        first page, or if no search is needed. It leads to the goal's product, or to the one that is open where that
        wins too. If nothing wins, it is the shortest way to buy the goal's product with the most wanted options. After
        buying it starts from the page with the search bar. None if no search finds the product.
        """
        ways = self._ways(session, session.snapshot())
        return min(ways, key=lambda way: (not way.wins, len(way.actions)), default=None)

    def _ways(self, session: Session, state: Mapping[str, Any]) -> list[Way]:
        page = state["page"]
        if page in ("index", "done"):
            return self._from_index()
        again = _after([] if self._shop.search_anywhere else [BACK], self._from_index())
        if page == "search_results":
            return self._by_turning(state["words"], state["number"]) + again
        finish = self._finish(state["asin"], state["options"]) if page == "item_page" else []
        return finish + _after([PREVIOUS], self._ways(session, _back(session, state))) + again

    def _from_index(self) -> list[Way]:
        """Return the way by the search that has the product on the earliest page, the first of equals."""
        if self._fresh is None:
            searches = [(rank, words) for words in search_texts(self._goal) if (rank := self._rank(words)) >= 0]
            self._fresh = []
            if searches:
                rank, words = min(searches, key=lambda search: search[0] // PAGE_SIZE)
                self._fresh = _after([f"search[{' '.join(words)}]", *[NEXT] * (rank // PAGE_SIZE)], self._open())
        return self._fresh

    def _by_turning(self, words: Sequence[str], number: int) -> list[Way]:
        """Return the way by `next >` or `< prev` to the page of these results that lists the product, if one does."""
        rank = self._rank(words)
        turns = 1 + rank // PAGE_SIZE - number
        return _after([NEXT if turns > 0 else PREVIOUS] * abs(turns), self._open()) if rank >= 0 else []

    def _rank(self, words: Sequence[str]) -> int:
        """Return the place of the goal's product among the results, from 0; -1 if it is not among them."""
        catalog = self._shop.catalog
        rows = catalog.find(words, with_special=self._shop.special_queries)
        row = catalog.store.row_of(self._goal.asin)
        return rows.index(row) if row in rows else -1

    def _open(self) -> list[Way]:
        return _after([f"click[{self._goal.asin.lower()}]"], self._finish(self._goal.asin, {}))

    def _finish(self, asin: str, chosen: Mapping[str, str]) -> list[Way]:
        """Return options and buying, from the page of a product. Another than the goal's that cannot win has no way."""
        if asin not in self._offers:
            self._offers[asin] = self._look_at(self._shop.catalog.product(asin))
        offer = self._offers[asin]
        is_goal = asin == self._goal.asin
        if not (offer.is_fit or is_goal):
            return []
        values, is_complete = self._options(offer, chosen)
        way = Way((*(f"click[{value}]" for value in values), BUY), offer.is_fit and is_complete)
        return [way] if way.wins or is_goal else []

    def _look_at(self, product: Product) -> _Offer:
        goal, catalog = self._goal, self._shop.catalog
        price = self._shop.pricing.price(product)
        bare = judge(replace(goal, options=()), product, price, {}, catalog.nouns)
        choices: dict[str, dict[int, str]] = {}
        if bare.reward == 1.0 or product.asin == goal.asin:
            wanted = {option if isinstance(option, str) else option[1] for option in goal.options}
            sets = {value: group for group, values in product.options for value in values if value not in _BUTTONS}
            for value in sorted(sets, key=lambda value: value not in wanted):
                met = self._met(sets[value], value)
                if met:
                    choices.setdefault(sets[value], {}).setdefault(met, value)
        return _Offer(bare.reward == 1.0, choices)

    def _met(self, group: str, value: str) -> int:
        """Return the wanted options that a chosen value meets, as bits: each is counted on its own by the reward."""
        chosen = {group: value}
        return sum(1 << bit for bit, option in enumerate(self._goal.options) if self._count([option], chosen))

    def _options(self, offer: _Offer, chosen: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
        """Return the fewest values to click so that most wanted options count, and whether then all do.

        A group keeps its value or gets one other. The ways to meet each set of wanted options grow group by group.
        """
        best: dict[int, tuple[str, ...]] = {0: ()}
        for group in dict.fromkeys((*offer.choices, *chosen)):
            kept = self._met(group, chosen[group]) if group in chosen else 0
            moves: dict[int, tuple[str, ...]] = {kept: ()}
            for met, value in offer.choices.get(group, {}).items():
                moves.setdefault(met, (value,))
            grown: dict[int, tuple[str, ...]] = {}
            for (met, values), (more, click) in pairs(best.items(), moves.items()):
                clicks = values + click
                if len(clicks) < len(grown.get(met | more, (*clicks, ""))):
                    grown[met | more] = clicks
            best = grown
        met = max(best, key=lambda met: (met.bit_count(), -len(best[met])))
        return best[met], met.bit_count() == len(self._goal.options)


def search_texts(goal: Goal) -> list[list[str]]:
    """Return the words of searches that may find a goal's product: query, with attributes, instruction, title."""
    texts = (goal.query, f"{goal.query} {' '.join(goal.attributes)}", goal.instruction, goal.title)
    return [words for text in texts if (words := _search_words(text))]


def _search_words(text: str) -> list[str]:
    """Return the words of a text without brackets, which would end the search early, in lower case as the shop makes
    them.
    """
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def _after(actions: Sequence[str], ways: Iterable[Way]) -> list[Way]:
    return [Way((*actions, *way.actions), way.wins) for way in ways]


def _back(session: Session, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state after `< prev`, tried on a twin, as words of a search can confuse where it leads."""
    twin = Session(session.shop, session.goal, session.id)
    twin.restore(state)
    twin.step(PREVIOUS)
    return twin.snapshot()
