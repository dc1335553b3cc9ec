"""Reads the action in a model's reply: any text gives an action or a typed error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agentgym_rft.agents.card import ActionCard
from agentgym_rft.agents.thoughts import ACTION_TAGS, Reading, Thought, read_reply

_OPENING, _CLOSING = ACTION_TAGS
_ACTION = re.compile(f"{_OPENING}(.*?){_CLOSING}", re.DOTALL)


class InvalidAction(StrEnum):
    """Why a reply gave no action."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    NO_ACTION = "no_action"
    SEVERAL_ACTIONS = "several_actions"
    NO_THINK = "no_think"
    UNFINISHED_THOUGHT = "unfinished_thought"


@dataclass(frozen=True, slots=True)
class Parsed:
    """`action` is stripped and on one line; it is empty if `error` is set."""

    action: str
    think: str = ""
    error: InvalidAction | None = None


def parse_reply(text: str, card: ActionCard) -> Parsed:
    """Return the action in a reply under a card's grammar. Never raises.

    Only what stands outside thoughts counts, in whatever tags the model thinks.
    """
    return parse_reading(read_reply(text), card)


def parse_reading(reading: Reading, card: ActionCard) -> Parsed:
    """Return the action in a reply that is told apart already."""
    if card.grammar == "plain":
        if reading.kind is Thought.OPEN and not reading.answer.strip():
            return Parsed("", reading.thought, InvalidAction.UNFINISHED_THOUGHT)
        return _checked(reading.answer, reading.thought, card)
    actions = _ACTION.findall(reading.answer)
    if not actions:
        is_open = reading.kind is Thought.OPEN
        return Parsed("", reading.thought, InvalidAction.UNFINISHED_THOUGHT if is_open else InvalidAction.NO_ACTION)
    if len(actions) > 1:
        return Parsed("", reading.thought, InvalidAction.SEVERAL_ACTIONS)
    if card.thinks and reading.kind is Thought.NONE:
        return Parsed("", reading.thought, InvalidAction.NO_THINK)
    return _checked(actions[0], reading.thought, card)


def _checked(raw: str, think: str, card: ActionCard) -> Parsed:
    action = " ".join(raw.split())
    if not action:
        return Parsed("", think, InvalidAction.EMPTY)
    if len(action) > card.max_chars:
        return Parsed("", think, InvalidAction.TOO_LONG)
    return Parsed(action, think)


def format_reply(action: str, think: str, card: ActionCard) -> str:
    """Return the reply a perfect agent would write: what demonstrations are made of. `parse_reply` inverts it."""
    thought = f"<think>{think}</think>" if card.thinks else ""
    return thought + format_action(action, card)


def format_action(action: str, card: ActionCard) -> str:
    """Return the same without a thought."""
    return action if card.grammar == "plain" else f"{_OPENING}{action}{_CLOSING}"
