"""The lesson of an episode, in words of the instruction, of the pages that its player read, and of actions.

The phrases are short and regular, so that a small model can learn to write and to follow them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentgym_rft.envs.base import Expert, Lesson
from agentgym_rft.envs.text_search.analyzer import analyze
from agentgym_rft.envs.webshop.players import BACK, BUY, NEXT, PREVIOUS, values_to_click
from agentgym_rft.envs.webshop.reading import Result, View, Wanted
from agentgym_rft.envs.webshop.session import SEARCH, clicked
from agentgym_rft.envs.webshop.transcript import Scene, read_scenes, read_wanted, searched

_COMMAND = re.compile(r"(?:search|click)\[[^\[]+?\](?=, |\.$)")
_NOT_A_WORD = re.compile(r"[^\w'&-]+")
_LONGEST_SEARCH = 12  # words
_TITLE_WORDS = 6  # that name a product
_OPENED = 3  # products named where nothing was bought
_LONGEST_ACTION = 80  # characters that are repeated
_ANYTHING_ELSE = "Take another action there."


@dataclass(frozen=True, slots=True)
class _Story:
    """An episode as read. `texts` is all that was read of each opened product, by title, in lower case."""

    steps: Sequence[tuple[str, str]]
    scenes: Sequence[Scene]
    wanted: Wanted
    texts: Mapping[str, str]
    rejected: str  # product that was bought, and that was at fault

    def lacks(self, title: str) -> tuple[str, ...]:
        """Return the needs that nothing read of a product meets, as the words that were wanted."""
        missing = self.wanted.missing(self.texts.get(title, title.lower()))
        return missing if self.wanted.is_template else _as_words(missing, self.wanted.search)

    def values(self, scene: Scene) -> list[str]:
        """Return the wanted options of the open product that are not chosen."""
        return [
            value for value in values_to_click(_item(self, scene), self.wanted) if value not in scene.chosen.values()
        ]


def lesson(observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
    """Return the lesson about turn `pivot`; None: no single turn was wrong, and the lesson is about the start.

    Where no page shows the instruction (mode `compact`, unless a line `Goal: ...` follows the first page), what is
    wanted is what the player searched. Pages of the modes `url` and `html` are not read.

    Args:
        observation: the text of the reset.
        steps: (action, what it led to) of all turns; an empty action is a reply that held none.

    Example: "Bought Harvelo Everyday Perfume Spray For Dead; score 0.75.", "[3] click[buy now] came before
    click[rose].", "click[rose], click[buy now]."
    """
    story = _read(observation, steps)
    if pivot is None:
        return Lesson(_summary(story), "Nothing led to the goal.", _sentence(_from_index(story, "")))
    action = steps[pivot][0][:_LONGEST_ACTION]
    cause = f"[{pivot}] {action} {_fault(story, pivot)}."
    return Lesson(_summary(story), cause, _sentence(_instead(story, pivot)))


class HeedingPlayer:
    """Follows the commands of a suggestion in order, each as soon as it is possible, and otherwise acts as an expert.

    Args:
        suggestion: of a `lesson`; other text has no commands.
        expert: acts where the next command is not possible, and after the last one.
        possible: the actions that the page shows, a search as `search[...]`.
    """

    def __init__(self, suggestion: str, expert: Expert, possible: Callable[[], Sequence[str]]) -> None:
        self._commands = _COMMAND.findall(suggestion)
        self._expert = expert
        self._possible = possible

    def act(self, observation: str) -> str:
        """Return the next action."""
        if self._commands:
            command = self._commands[0]
            is_search = command.startswith(f"{SEARCH}[")
            if any(action == command or (is_search and action.startswith(f"{SEARCH}[")) for action in self._possible()):
                return str(self._commands.pop(0))
        return self._expert.act(observation)


def _read(observation: str, steps: Sequence[tuple[str, str]]) -> _Story:
    scenes = read_scenes(observation, steps)
    texts: dict[str, str] = {}
    for scene in scenes:
        if scene.view.kind == "item":
            values = (value for _, group in scene.view.options for value in group)
            texts.setdefault(scene.product, " ".join((scene.product, *values)).lower())
        elif scene.view.kind == "sub" and scene.product:
            texts[scene.product] = f"{texts.get(scene.product, '')} {scene.view.text}"
    story = _Story(steps, scenes, read_wanted(scenes, steps), texts, "")
    last = scenes[-1]
    is_at_fault = last.score is not None and last.score < 1.0 and not story.values(last)
    return _Story(steps, scenes, story.wanted, texts, last.product if is_at_fault else "")


def _item(story: _Story, scene: Scene) -> View:
    """Return the page of the product that is open in a scene, as it was read; a page of nothing if there is none."""
    pages = (other.view for other in story.scenes if other.view.kind == "item" and other.product == scene.product)
    return next(pages, View("item"))


def _summary(story: _Story) -> str:
    """Return a sentence about the bought product, or about the opened ones."""
    last = story.scenes[-1]
    if last.view.kind == "done":
        chosen = f" with {', '.join(last.chosen.values())}" if last.chosen else ""
        score = f"; score {last.score:.2g}" if last.score is not None else ""
        return f"Bought {_name(last.product)}{chosen}{score}."
    opened: dict[str, int] = {}
    for turn, scene in enumerate(story.scenes[:-1]):  # what the last action showed belongs to no turn
        if scene.product:
            opened.setdefault(scene.product, turn)
    seen = [f"{_name(title)} [{turn}]" for title, turn in opened.items()][-_OPENED:]
    return f"Bought nothing. Opened {', '.join(seen) or 'nothing'}."


def _fault(story: _Story, pivot: int) -> str:
    """Return what was wrong with the action of a turn, as the end of a sentence."""
    action, before, after = story.steps[pivot][0], story.scenes[pivot], story.scenes[pivot + 1]
    words = searched(action)
    if words and after.view.kind == "results":
        left_out = _as_words(set(analyze(story.wanted.search)) - set(analyze(words)), story.wanted.search)
        return f"left out {', '.join(left_out)}" if left_out else "did not find it"
    if before.view.kind == "results" and after.view.kind == "item":
        return _blame(story, after, "opened") or "was wrong"
    if before.view.kind == "item" and after.view.kind == "done":
        values = story.values(before)
        return f"came before click[{values[0]}]" if values else _blame(story, before, "bought") or "was wrong"
    option = clicked(action, [value for _, values in before.view.options for value in values])
    return "was wrong" if option is None or option in story.wanted.text else "was not asked for"


def _blame(story: _Story, scene: Scene, verb: str) -> str:
    """Return what is wrong with a product, as far as its pages tell; empty if they do not."""
    lacks = story.lacks(scene.product)
    if lacks:
        return f"{verb} a product without {', '.join(lacks)}"
    return f"{verb} a product that costs too much" if _item(story, scene).price > story.wanted.cap else ""


def _instead(story: _Story, pivot: int) -> list[str]:
    """Return the commands to give in place of the action of a turn; none if its page was not read."""
    scene, action = story.scenes[pivot], story.steps[pivot][0]
    kind = scene.view.kind
    if kind == "index":
        return _from_index(story, searched(action))
    if kind == "results":
        return _from_results(story, scene.view, story.scenes[pivot + 1].product)
    if kind == "sub":
        return [PREVIOUS, *_buying(story, scene)]
    if kind != "item":
        return []
    if story.scenes[pivot + 1].view.kind == "done" and not story.values(scene):  # the wrong product
        listed = [earlier.view for earlier in story.scenes[:pivot] if earlier.view.kind == "results"]
        return [PREVIOUS, *_from_results(story, listed[-1], scene.product)] if listed else [PREVIOUS]
    return _buying(story, scene)


def _buying(story: _Story, scene: Scene) -> list[str]:
    return [*(f"click[{value}]" for value in story.values(scene)), BUY]


def _from_index(story: _Story, typed: str) -> list[str]:
    """Return a search for all that is wanted; for the words of the instruction, if just that was typed."""
    words = story.wanted.search.split()[:_LONGEST_SEARCH]
    if words == typed.split():
        words = _NOT_A_WORD.sub(" ", story.wanted.text).split()
    return [f"search[{' '.join(words)}]"] if words else []


def _from_results(story: _Story, view: View, wrong: str) -> list[str]:
    """Return the affordable result other than the wrong one that meets most needs, and buying it if it meets all.

    Of equals one that was not looked at yet, then the first.
    """
    wanted = story.wanted
    choices = [r for r in view.results if r.title not in (wrong, story.rejected) and r.price <= wanted.cap]

    def fit(result: Result) -> tuple[bool, int, bool]:
        return wanted.is_named(result.title.lower()), -len(story.lacks(result.title)), result.title not in story.texts

    if not choices:
        return [NEXT] if view.has_next else [BACK, *_from_index(story, "")]
    best = max(choices, key=fit)
    if story.lacks(best.title):
        return [f"click[{best.asin.lower()}]"]
    values = story.values(Scene(view, best.title)) or [value for _, value in wanted.options]
    return [f"click[{best.asin.lower()}]", *(f"click[{value}]" for value in values), BUY]


def _sentence(commands: Sequence[str]) -> str:
    return f"{', '.join(commands)}." if commands else _ANYTHING_ELSE


def _name(title: str) -> str:
    return " ".join(title.split()[:_TITLE_WORDS])


def _as_words(stems: Sequence[str] | set[str], text: str) -> tuple[str, ...]:
    """Return the words of a text that have these stems, each once."""
    wanted = set(stems)
    return tuple(word for word in dict.fromkeys(text.split()) if wanted & set(analyze(word)))
