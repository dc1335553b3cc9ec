"""One customer in the shop: a few small values, and what an action does to them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from agentgym_rft.envs.webshop import pages
from agentgym_rft.envs.webshop.catalog import Catalog
from agentgym_rft.envs.webshop.goals import Goal, Pricing
from agentgym_rft.envs.webshop.pages import Hits, Look, Node
from agentgym_rft.envs.webshop.products import Product
from agentgym_rft.envs.webshop.reward import Verdict, judge
from agentgym_rft.errors import ConfigError, EnvError

BASE_URL = "http://127.0.0.1:3000"
PAGE_SIZE = 10
SEARCH = "search"
_ACTION = re.compile(r"(.+)\[(.+)\]")
_CLICK = re.compile(r"click\[(.+)\]")
_PAGES_BY_URL = ("search_results", "item_page", "item_sub_page", "done")
_SUB_PAGES = {name.lower(): name for name in pages.SUB_PAGES}


@dataclass(frozen=True, slots=True)
class Shop:
    """The parts that all sessions of an environment share."""

    catalog: Catalog
    pricing: Pricing = field(default_factory=Pricing)
    search_anywhere: bool = True
    endless_next: bool = True
    special_queries: bool = False
    show_attributes: bool = False
    strict_options: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The effect of an action. `is_valid` is False if it had none."""

    reward: float = 0.0
    done: bool = False
    is_valid: bool = True


@dataclass(slots=True)
class State:
    """All that changes in a session."""

    page: str = "index"  # index, or one of the names in URLs
    words: list[str] | None = None
    number: int = 1  # of the page of results
    asin: str | None = None
    sub_page: str = ""
    options: dict[str, str] = field(default_factory=dict)
    visited: list[str] = field(default_factory=list)  # asins clicked since the index page, each once
    verdict: Verdict | None = None


def parse_action(action: str) -> tuple[str, str | None]:
    """Return name and lower-cased argument of `name[argument]`; without brackets the whole text and None."""
    match = _ACTION.match(action)
    return (match[1], match[2].lower()) if match else (action, None)


def clicked(action: str, labels: Collection[str]) -> str | None:
    """Return the label that an action clicks, None if it clicks none.

    The original splits an action at its last bracket and compares exactly. So nobody could choose an option with
    brackets in it, and no agent one with two spaces in a row, which a reply does not keep: here they can.
    """
    name, argument = parse_action(action)
    if name == "click" and argument is not None and argument != SEARCH and argument in labels:
        return argument
    click = _CLICK.fullmatch(action)
    if click is None:
        return None
    said = click[1].lower().split()
    return next((label for label in labels if label != SEARCH and label.split() == said), None)


class Session:
    """One customer with one goal. It never raises for an action, and may go on after buying, as the original may."""

    def __init__(self, shop: Shop, goal: Goal, session_id: str) -> None:
        self.shop = shop
        self.goal = goal
        self.id = session_id
        self._state = State()
        self._page: list[Node] | None = None  # of the current state; made when it is looked at
        self._clickables: dict[str, Node] | None = None

    def step(self, action: str) -> Outcome:
        """Do `search[words]` or `click[label]`; anything else changes nothing."""
        name, argument = parse_action(action)
        if name == SEARCH and argument and self._can_search():
            self._search(argument.split(" "), 1)
            return Outcome()
        label = clicked(action, self._targets())
        return Outcome(is_valid=False) if label is None else self._click(label)

    def observation(self, mode: str) -> str:
        """Return the current page in one of `pages.MODES`."""
        if mode == "text":
            return pages.as_text(self._nodes())
        if mode == "text_rich":
            return pages.as_rich_text(self._nodes(), self.url, self._state.visited)
        if mode == "url":
            return self.url
        if mode == "html":
            return pages.as_html(self._nodes())
        raise ConfigError(f"There is no observation mode '{mode}'; expected one of {', '.join(pages.MODES)}.")

    def available_actions(self) -> dict[str, Any]:
        """Return `has_search_bar` and `clickables`, as the original lists them."""
        return {"has_search_bar": self._state.page == "index", "clickables": list(self._targets())}

    def nodes(self) -> Sequence[Node]:
        """Return the current page as nodes."""
        return self._nodes()

    def links(self) -> list[str]:
        """Return the asins that the current page links to, in order."""
        return [node.text for node in self._nodes() if node.look is Look.LINK]

    @property
    def instruction_text(self) -> str:
        """The instruction with the prefix that the original gives it."""
        return f"Instruction: {self.goal.instruction}"

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the last purchase; None before one."""
        return self._state.verdict

    @property
    def url(self) -> str:
        """The address of the current page."""
        state = self._state
        if state.page == "index":
            return f"{BASE_URL}/{self.id}"
        if state.page == "done":
            return f"{BASE_URL}/done/{self.id}/{state.asin}/{state.options}"
        words = "+".join(state.words or ())
        if state.page == "search_results":
            return f"{BASE_URL}/search_results/{self.id}/{words}/{state.number}"
        path = f"{BASE_URL}/{state.page}/{self.id}/{state.asin}/{words}/{state.number}"
        if state.page == "item_page":
            return f"{path}/{json.dumps(state.options)}"
        return f"{path}/{state.sub_page}/{state.options}"

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a dict of JSON values, a copy. A verdict is not in it: `restore` judges again."""
        state = self._state
        return {
            "page": state.page,
            "words": None if state.words is None else list(state.words),
            "number": state.number,
            "asin": state.asin,
            "sub_page": state.sub_page,
            "options": dict(state.options),
            "visited": list(state.visited),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from a snapshot of a session with the same goal. Raises `EnvError` if it is none."""
        try:
            self._state = State(**deepcopy(dict(saved)))  # the snapshot stays as it is
            self._turn_page()
            self._nodes()
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EnvError("The snapshot is damaged or of another catalogue; take a new one.") from error

    def _can_search(self) -> bool:
        return self.shop.search_anywhere or self._state.page == "index"

    def _click(self, label: str) -> Outcome:
        """Follow a clickable; the order of the tests decides what options named like buttons do."""
        state = self._state
        target = self._targets()[label]
        self._turn_page()
        shown = self._page_by_url() if label in ("next >", "< prev") else ""
        if label == "buy now":
            state.page = "done"
            return Outcome(self._judge().reward, True)
        if label == "back to search":
            self._state = State()
        elif label == "next >" and shown == "search_results":
            self._search(state.words or [], state.number + 1)
        elif label == "< prev" and shown == "search_results":
            self._search(state.words or [], state.number - 1)
        elif label == "< prev" and shown == "item_page":
            self._search(state.words or [], state.number)
        elif label in _SUB_PAGES:
            state.page, state.sub_page = "item_sub_page", _SUB_PAGES[label]
        else:
            self._open_item(target, label)
        return Outcome()

    def _open_item(self, target: Node, label: str) -> None:
        """The page of a product: by its link, by choosing an option on it, or back from a sub page."""
        state = self._state
        if target.look is Look.LINK:
            state.asin = target.text
            if target.text not in state.visited:
                state.visited.append(target.text)
        elif target.look is Look.OPTION:
            state.options[target.group] = label
        state.page = "item_page"

    def _search(self, words: Sequence[str], number: int) -> None:
        state = self._state
        self._turn_page()
        state.page, state.words, state.number = "search_results", list(words), number
        state.asin, state.options = None, {}

    def _judge(self) -> Verdict:
        product = self._product()
        self._state.verdict = judge(
            self.goal,
            product,
            self.shop.pricing.price(product),
            self._state.options,
            self.shop.catalog.nouns,
            is_strict=self.shop.strict_options,
        )
        return self._state.verdict

    def _product(self) -> Product:
        return self.shop.catalog.product(self._state.asin or "")

    def _page_by_url(self) -> str:
        """Return the page as the original tells it: the first name that occurs in the URL, the search words
        included.
        """
        url = self.url
        return next((name for name in _PAGES_BY_URL if name in url), "")

    def _turn_page(self) -> None:
        self._page = self._clickables = None

    def _nodes(self) -> list[Node]:
        if self._page is None:
            self._page = self._make_page()
        return self._page

    def _make_page(self) -> list[Node]:
        state, instruction = self._state, self.goal.instruction
        if state.page == "index":
            return pages.index_page(instruction)
        if state.page == "search_results":
            return pages.results_page(instruction, self._hits())
        product = self._product()
        if state.page == "item_page":
            return pages.item_page(instruction, product, show_attributes=self.shop.show_attributes)
        if state.page == "item_sub_page":
            return pages.sub_page(instruction, product, state.sub_page)
        verdict = state.verdict or self._judge()
        return pages.done_page(product.asin, state.options, verdict.reward)

    def _hits(self) -> Hits:
        catalog, state = self.shop.catalog, self._state
        rows = catalog.find(state.words or [], with_special=self.shop.special_queries)
        stop = state.number * PAGE_SIZE
        products = [catalog.store[row] for row in rows[stop - PAGE_SIZE : stop]]
        return Hits(state.number, len(rows), products, self.shop.endless_next or stop < len(rows))

    def _targets(self) -> dict[str, Node]:
        """Clickables by label: buttons, then product links, then options; a later one takes the place of its equal."""
        if self._clickables is None:
            targets: dict[str, Node] = {}
            nodes = self._nodes()
            for look in (Look.BUTTON, Look.LINK, Look.OPTION):
                for node in nodes:
                    if node.look is look:
                        targets[node.text if look is Look.OPTION else node.text.lower()] = node
            self._clickables = targets
        return self._clickables
