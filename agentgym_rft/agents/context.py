"""Context strategies: a turn's prompt shows the whole history, the last turns, or notes on seen and untried actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym_rft.agents.card import ContextCard
from agentgym_rft.agents.template import Message

CUT_MARK = " [cut]"
_GOAL = "\nGoal: "


@dataclass(slots=True)
class History:
    """Observations and actions so far; `observations` is one longer than `actions` while an action is awaited."""

    observations: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    untried: dict[str, None] = field(default_factory=dict)  # admissible actions never taken, in order of appearance

    def add_observation(self, observation: str, info: Mapping[str, Any], card: ContextCard) -> None:
        text = observation.strip()
        if len(text) > card.max_chars:
            text = text[: card.max_chars] + CUT_MARK
        admissible = [a for a in info.get("admissible_actions") or () if a not in card.hide_actions]
        for action in admissible:
            if action not in self.actions:
                self.untried.setdefault(action)
        if card.show_admissible and admissible:
            text += "\nAdmissible: " + "; ".join(admissible)
        if card.show_goal and info.get("goal"):
            text += f"{_GOAL}{info['goal']}"
        self.observations.append(text)

    def add_action(self, action: str) -> None:
        self.actions.append(action)
        self.untried.pop(action, None)


def without_goal(observation: str) -> str:
    """Return an observation without the goal that `show_goal` put at its end."""
    head, mark, goal = observation.rpartition(_GOAL)
    return head if mark and "\n" not in goal else observation


def conversation(
    system: str,
    history: History,
    replies: Sequence[str],
    card: ContextCard,
    shown: Callable[[int, str], list[Message]],
) -> list[Message]:
    """Return the messages that the next action answers.

    Args:
        system: without one, there is no system message.
        replies: the agent's own words, one for each turn that is past.
        shown: the messages that show the observation of a turn, for the `full` strategy.
    """
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    if card.strategy != "full":
        return [*messages, {"role": "user", "content": single_prompt(history, card)}]
    for turn, observation in enumerate(history.observations):
        messages += shown(turn, observation)
        messages += [{"role": "assistant", "content": reply} for reply in replies[turn : turn + 1]]
    return messages


def single_prompt(history: History, card: ContextCard) -> str:
    """Return the user message of the `window` and `notes` strategies: one message with all that is shown."""
    num_past = len(history.actions)
    first = max(num_past - card.num_turns, 0)
    lines = [history.observations[0]]
    if card.strategy == "notes" and num_past:
        lines += ["", *_notes(history, first)]
    if num_past:
        lines += ["", *_last_turns(history, first)]
    return "\n".join(lines)


def _last_turns(history: History, first: int) -> list[str]:
    lines = []
    for index in range(first, len(history.actions)):
        lines += [f"> {history.actions[index]}", history.observations[index + 1]]
    return lines


def _notes(history: History, first: int) -> list[str]:
    """Return notes on turns before the shown ones: the last result of each distinct action, and actions never
    tried.
    """
    seen: dict[str, str] = {}
    for action, result in zip(history.actions[:first], history.observations[1:], strict=False):
        seen[action] = result
    lines = [f"Notes, turn {len(history.actions)}."]
    lines += [f"- {action}: {result.splitlines()[0] if result else ''}" for action, result in seen.items()]
    if history.untried:
        lines.append("Not tried: " + "; ".join(history.untried) + ".")
    return lines
