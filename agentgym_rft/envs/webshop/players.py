"""Scripted customers: an oracle, a searching expert, the rule of the paper, and a random one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agentgym_rft.envs.text_search.analyzer import analyze
from agentgym_rft.envs.webshop.reading import Result, View, Wanted, read_instruction, read_view

BUY, BACK, PREVIOUS, NEXT = "click[buy now]", "click[back to search]", "click[< prev]", "click[next >]"
_FEATURES = "click[features]"
TRIES = 3  # products that the expert examines before it buys the best; two that it only opens count as one
_MOST_PAGES = 2
_SHOWN = 3  # results that a slip of the expert may open
_LONGEST_SEARCH = 12  # words
_UNSEEN = 1  # needs that the title of the clearly best product may leave open without a closer look


@dataclass(slots=True)
class Note:
    """The expert's notes on a product that it opened."""

    number: int  # of the page of results that lists it
    text: str = ""  # title, options and features, in lower case
    has_options: bool = False
    was_examined: bool = False
    is_trusted: bool = False  # clearly the best, though a need is open


@dataclass(slots=True)
class Memory:
    """The expert's memory of this episode: what it did and read."""

    notes: dict[str, Note] = field(default_factory=dict)
    results: dict[int, tuple[Result, ...]] = field(default_factory=dict)
    here: str = ""  # product whose page was opened last
    number: int = 1
    chosen: set[str] = field(default_factory=set)  # labels clicked on its page
    decided: str = ""  # product to buy

    def has_patience(self, tries: int) -> bool:
        """Return whether another product may be opened.
        To open and leave one is two actions, to examine it two more.
        """
        return sum(2 if note.was_examined else 1 for note in self.notes.values()) <= 2 * (tries - 1)


class SearchExpert:
    """Searches the query with the attributes, opens what fits best by title and price, checks it, and buys.

    It knows only what it reads, and what kinds of products and option groups a shop has. A product whose title lacks an
    attribute is examined on its page of features, unless it is clearly the best and lacks only one; a product that
    lacks an option or an attribute is left for the next, and the best of a few is bought.

    Args:
        rng: source of slips; needed if `noise` is above 0.
        noise: chance that an action is another plausible one: a poorer search, another product, another option, an
            unneeded look. The expert notices and continues from there.
        tries: products that it examines before it buys the best of them; two that it only opens count as one.
    Raises:
        ValueError: noise without an rng.
    """

    def __init__(self, rng: np.random.Generator | None = None, noise: float = 0.0, tries: int = TRIES) -> None:
        if noise > 0 and rng is None:
            raise ValueError("noise > 0 needs an rng, so that episodes can be repeated.")
        self._rng, self._noise, self._tries = rng, noise, tries
        self._wanted: Wanted | None = None
        self._memory = Memory()

    def act(self, observation: str) -> str:
        """Return the next action. Raises `DataError` if the observation is no page in mode `text` or `text_rich`."""
        view = read_view(observation)
        if self._wanted is None:
            self._wanted = read_instruction(view.instruction)
        if view.kind == "index":
            return self._search(self._wanted)
        if view.kind == "results":
            return self._choose(view, self._wanted)
        if view.kind == "item":
            return self._examine(view, self._wanted)
        if view.kind == "sub":
            self._read_features(view)
        return PREVIOUS

    def _slips(self) -> bool:
        return self._rng is not None and self._noise > 0 and self._rng.random() < self._noise

    def _below(self, n: int) -> int:
        assert self._rng is not None, "a slip without an rng"
        return int(self._rng.integers(n))

    def _search(self, wanted: Wanted) -> str:
        self._memory = Memory()
        words = wanted.search.split()[:_LONGEST_SEARCH]
        if self._slips():
            words = words[: 1 + self._below(len(words))]
        return f"search[{' '.join(words)}]"

    def _choose(self, view: View, wanted: Wanted) -> str:
        memory = self._memory
        memory.number, memory.results[view.number] = view.number, view.results
        memory.notes.pop("", None)  # what was open when the expert took over: it has no name to come back by
        if memory.decided:
            return self._return_to(memory.decided, view)
        if self._slips() and view.results:
            return self._open(view.results[self._below(min(_SHOWN, len(view.results)))].asin)
        best = self._best_untried(view, wanted)
        if best is not None and memory.has_patience(self._tries):
            return self._open(best.asin)
        if not memory.notes and view.has_next and view.number < _MOST_PAGES:
            return NEXT
        if memory.notes:
            memory.decided = self._best_known(wanted)
        elif view.results:
            return self._open(view.results[0].asin)
        else:
            return BACK if view.number == 1 else PREVIOUS
        return self._return_to(memory.decided, view)

    def _best_untried(self, view: View, wanted: Wanted) -> Result | None:
        """Return the affordable result that is the thing itself and whose title meets most needs; the first of
        equals.
        """
        choices = [r for r in view.results if r.asin not in self._memory.notes and r.price <= wanted.cap]

        def fit(result: Result) -> tuple[bool, int]:
            title = result.title.lower()
            return wanted.is_named(title), -len(wanted.missing(title))

        return max(choices, key=fit, default=None)

    def _open(self, asin: str) -> str:
        self._memory.here, self._memory.chosen = asin, set()
        self._memory.notes.setdefault(asin, Note(self._memory.number))
        return f"click[{asin.lower()}]"

    def _return_to(self, asin: str, view: View) -> str:
        number = self._memory.notes[asin].number
        if number != view.number:
            return NEXT if number > view.number else PREVIOUS
        return self._open(asin)

    def _best_known(self, wanted: Wanted) -> str:
        notes = self._memory.notes
        return max(notes, key=lambda asin: (notes[asin].has_options, -len(wanted.missing(notes[asin].text))))

    def _examine(self, view: View, wanted: Wanted) -> str:
        """On the page of a product: look closer, leave, choose options, or buy."""
        memory = self._memory
        note = memory.notes.setdefault(memory.here, Note(memory.number))
        values = [value for _, group in view.options for value in group]
        note.text = note.text or " ".join((view.title, *values)).lower()
        note.has_options = all(value in values for _, value in wanted.options)
        if self._slips():
            return self._slip_on_item(view)
        if memory.decided != memory.here:
            if note.has_options and not note.was_examined and self._is_unclear(note, view, wanted):
                note.was_examined = True
                return _FEATURES
            if self._may_be_bettered(note, view, wanted):
                return PREVIOUS
            memory.decided = self._best_known(wanted)
            if memory.decided != memory.here:
                return PREVIOUS
        for value in values_to_click(view, wanted):
            if value not in memory.chosen:
                memory.chosen.add(value)
                return f"click[{value}]"
        return BUY

    def _is_unclear(self, note: Note, view: View, wanted: Wanted) -> bool:
        """Return whether a product needs a closer look: it seems to lack something, and is not clearly the best."""
        memory = self._memory
        open_needs = len(wanted.missing(note.text))
        is_last_try = len(memory.notes) == 1 and not memory.has_patience(self._tries)
        if not open_needs or is_last_try:  # there is nothing else that a closer look could lead to
            return False
        others = [result for result in memory.results.get(note.number, ()) if result.asin != memory.here]
        rivals = [r for r in others if r.price <= wanted.cap and wanted.is_named(r.title.lower())]
        is_best = all(len(wanted.missing(rival.title.lower())) > open_needs for rival in rivals)
        note.is_trusted = is_best and open_needs <= _UNSEEN and view.price <= wanted.cap
        return not note.is_trusted

    def _may_be_bettered(self, note: Note, view: View, wanted: Wanted) -> bool:
        if not self._memory.has_patience(self._tries):
            return False
        is_good = note.is_trusted or not wanted.missing(note.text)
        return not (is_good and note.has_options and view.price <= wanted.cap)

    def _slip_on_item(self, view: View) -> str:
        groups = [group for _, group in view.options if group]
        if groups and self._below(2):
            group = groups[self._below(len(groups))]
            self._memory.chosen -= set(group)
            return f"click[{group[self._below(len(group))]}]"
        return ("click[description]", PREVIOUS)[self._below(2)]

    def _read_features(self, view: View) -> None:
        note = self._memory.notes.get(self._memory.here)
        if note is not None:
            note.text = f"{note.text} {view.text}"


def values_to_click(view: View, wanted: Wanted) -> list[str]:
    """Return the options to choose: those that the template names, or in each group the one with most wanted words."""
    if wanted.is_template:
        offered = {value for _, group in view.options for value in group}
        return [value for _, value in wanted.options if value in offered]
    stems = set(analyze(wanted.text))
    return [value for _, group in view.options if (value := _most_wanted(group, wanted.text, stems))]


def _most_wanted(values: Sequence[str], text: str, stems: set[str]) -> str:
    """Return the longest value that a request names, else the one with most of its words in it if that is over half."""
    named = max((value for value in values if value in text), key=len, default="")
    if named:
        return named

    def share(value: str) -> float:
        own = analyze(value)
        return sum(stem in stems for stem in own) / len(own) if own else 0.0

    best = max(values, key=share, default="")
    return best if share(best) > 0.5 else ""


class RulePlayer:
    """The rule of the paper: search the whole instruction and buy the first result, without options."""

    def act(self, observation: str) -> str:
        """Return the next action."""
        view = read_view(observation)
        if view.kind == "index":
            return f"search[{view.instruction}]"
        if view.kind == "results":
            return f"click[{view.results[0].asin.lower()}]" if view.results else BACK
        return BUY if view.kind == "item" else PREVIOUS


class RandomPlayer:
    """Any action that the page shows, all equally likely; a search takes one to four words of the instruction."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, observation: str) -> str:
        """Return the next action."""
        view = read_view(observation)
        if view.kind == "index":
            words = view.instruction.split()
            places = self._rng.integers(len(words), size=1 + int(self._rng.integers(4)))
            return f"search[{' '.join(words[int(place)] for place in places)}]"
        actions = [BACK, PREVIOUS]
        if view.kind == "results":
            actions = [BACK, *([PREVIOUS] if view.number > 1 else []), *([NEXT] if view.has_next else [])]
            actions += [f"click[{result.asin.lower()}]" for result in view.results]
        elif view.kind == "item":
            actions += [f"click[{label}]" for label in ("description", "features", "reviews", "buy now")]
            actions += [f"click[{value}]" for _, group in view.options for value in group]
        return actions[int(self._rng.integers(len(actions)))]
