"""Reads transcripts in the modes `text`, `text_rich` and `compact`: pages, what was chosen, and what was wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentgym_rft.envs.webshop.reading import Result, View, Wanted, read_instruction, read_view
from agentgym_rft.envs.webshop.session import BASE_URL, SEARCH, clicked, parse_action
from agentgym_rft.errors import DataError

_PAGE_START = re.compile(r"(?:WebShop\s*(?:\[SEP\])?\s*)?Instruction:\s*(?:\[SEP\]|\n)|Thank you for shopping")
_PAST = " [SEP] "  # before the current page where earlier ones are shown with it
_GOAL = "\nGoal: "  # as agents put the goal after an observation
_COMPACT_PAGE = re.compile(r"Page (-?\d+) \(Total results: \d+\)")
_COMPACT_RESULT = re.compile(r"(\d{1,2}) (.*) \$([\d.]+)(?: to \$[\d.]+)?")
_PRICE = re.compile(r"Price: \$([\d.]+)")
_SCORE = re.compile(r"Your score(?: \(min 0\.0, max 1\.0\))?:?\s*(?:\[SEP\])?\s*(\d\.\d+)")
_OTHER_MODES = (BASE_URL, "<!DOCTYPE")
UNREAD = View("unread")


@dataclass(frozen=True, slots=True)
class Scene:
    """The page before a turn. `product` is the title of the open product, `chosen` its chosen value by group."""

    view: View
    product: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None  # of a purchase


def read_page(observation: str) -> View:
    """Return the current page of an observation; `UNREAD` in the modes `url` and `html`.

    In `compact` the numbers of results stand for their asins, and a page has no instruction unless one follows as
    `Goal: ...`, and no `has_next`.
    """
    if observation.startswith(_OTHER_MODES):
        return UNREAD
    starts = [match.start() for match in _PAGE_START.finditer(observation)]
    if not starts:
        return _read_compact(observation.rpartition(_PAST)[2])
    try:
        return read_view(observation[starts[-1] :])
    except DataError:
        return UNREAD


def read_scenes(observation: str, steps: Sequence[tuple[str, str]]) -> list[Scene]:
    """Return the scene before each turn, and that after the last: one more than there are steps.

    A step without an action changes nothing. An empty page is one: a product without a description, in `compact`.
    """
    scenes = [Scene(read_page(observation))]
    for action, seen in steps:
        scenes.append(_next_scene(scenes[-1], action, seen) if action else scenes[-1])
    return scenes


def read_wanted(scenes: Sequence[Scene], steps: Sequence[tuple[str, str]]) -> Wanted:
    """Return the wishes in the instruction; if no page shows it, those in the player's searches."""
    text = next((scene.view.instruction for scene in scenes if scene.view.instruction), "")
    if not text:
        searches = (argument for action, _ in steps for argument in [searched(action)] if argument)
        text = " ".join(dict.fromkeys(word for words in searches for word in words.split()))
    return read_instruction(text)


def searched(action: str) -> str:
    """Return the words of a search; empty for another action."""
    name, argument = parse_action(action)
    return argument or "" if name == SEARCH else ""


def _next_scene(before: Scene, action: str, seen: str) -> Scene:
    view = read_page(seen)
    if view.kind == "done":
        score = _SCORE.search(seen)
        return Scene(view, before.product, before.chosen, float(score[1]) if score else None)
    if view.kind == "sub":
        return Scene(view, before.product, before.chosen)
    if view.kind != "item":
        return Scene(view)
    if before.view.kind not in ("item", "sub"):
        return Scene(view, view.title)
    groups = {value: group for group, values in before.view.options for value in values}
    label = clicked(action, groups)
    chosen = {} if label is None else {groups[label]: label}
    return Scene(view, view.title, {**before.chosen, **chosen})


def _read_compact(page: str) -> View:
    page, _, goal = page.partition(_GOAL)
    lines = page.split("\n")
    if lines[0] == "Search.":
        return View("index", goal)
    if lines[0].startswith("Bought. Your score: "):
        return View("done", goal)
    number = _COMPACT_PAGE.fullmatch(lines[0])
    if number:
        found = (match for line in lines[1:] for match in [_COMPACT_RESULT.fullmatch(line)] if match)
        results = tuple(Result(match[1], match[2], _price(match[3])) for match in found)
        return View("results", goal, number=int(number[1]), results=results)
    price_at = next((at for at, line in enumerate(lines) if at and _PRICE.match(line)), 0)
    if not price_at:
        return View("sub", goal, text=page.lower())
    groups = (line.partition(": ") for line in lines[price_at + 1 :])
    options = tuple((group, tuple(values.split("; "))) for group, _, values in groups if values)
    price = _PRICE.match(lines[price_at])
    return View("item", goal, title=lines[price_at - 1], price=_price(price[1]) if price else 0.0, options=options)


def _price(digits: str) -> float:
    """Return the number; 0 for digits that are none, as a title can have them."""
    try:
        return float(digits)
    except ValueError:
        return 0.0
