"""Reads the action in a model's reply: any text gives an action or a typed error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agentgym_rft.agents.card import ActionCard

_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)


class InvalidAction(StrEnum):
    """Why a reply gave no action."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    NO_ACTION = "no_action"
    SEVERAL_ACTIONS = "several_actions"
    NO_THINK = "no_think"


@dataclass(frozen=True, slots=True)
class Parsed:
    """`action` is stripped and on one line; it is empty if `error` is set."""

    action: str
    think: str = ""
    error: InvalidAction | None = None


def parse_reply(text: str, card: ActionCard) -> Parsed:
    """Return the action in a reply under a card's grammar. Never raises."""
    if card.grammar == "plain":
        return _checked(text, "", card)
    actions = _ACTION.findall(text)
    thought = _THINK.search(text)
    think = thought.group(1).strip() if thought else ""
    if not actions:
        return Parsed("", think, InvalidAction.NO_ACTION)
    if len(actions) > 1:
        return Parsed("", think, InvalidAction.SEVERAL_ACTIONS)
    if card.think and thought is None:
        return Parsed("", think, InvalidAction.NO_THINK)
    return _checked(actions[0], think, card)


def _checked(raw: str, think: str, card: ActionCard) -> Parsed:
    action = " ".join(raw.split())
    if not action:
        return Parsed("", think, InvalidAction.EMPTY)
    if len(action) > card.max_chars:
        return Parsed("", think, InvalidAction.TOO_LONG)
    return Parsed(action, think)


def format_reply(action: str, think: str, card: ActionCard) -> str:
    """Return the reply a perfect agent would write: what demonstrations are made of. `parse_reply` inverts it."""
    if card.grammar == "plain":
        return action
    return (f"<think>{think}</think>" if card.think else "") + f"<action>{action}</action>"
