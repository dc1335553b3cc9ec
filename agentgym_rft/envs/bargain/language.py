"""The words of a negotiation: actions that are read, and what agents are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from agentgym_rft.envs.bargain.instances import KINDS, Amounts

MAX_MESSAGE = 200  # characters of a message
_MAX_ACTION = 300
_ITEM = re.compile(r"(\d) (book|hat|ball)s?", re.ASCII)
_ACTION = re.compile(r"(say|offer)(?:\s*:|\s)\s*(.*)", re.IGNORECASE | re.DOTALL)
_WORDS = {"accept": "accept", "quit": "quit", "reject": "quit"}
_OPENING = re.compile(r"^Items: (\d) book (\d) hat (\d) ball\. Your values: book (\d+) hat (\d+) ball (\d+)\.", re.M)
_OFFER = re.compile(r"^They offer: you get (\d) book (\d) hat (\d) ball, worth \d+ to you\.$", re.M)
_TURNS = re.compile(r"Turns left: (\d+)\.$")
FORMS = "Write offer: and what you take, say: and words, accept, or quit."


@dataclass(frozen=True, slots=True)
class Move:
    """An action as it was understood; `wrong` says in a sentence what is wrong with one that was not."""

    kind: Literal["say", "offer", "accept", "quit", "wrong"]
    items: Amounts = (0, 0, 0)
    words: str = ""


def read_action(text: str, counts: Amounts) -> Move:
    """Return the meaning of an action for these items; of kind `wrong`, with the reason, if it has none."""
    if len(text) > _MAX_ACTION:
        return Move("wrong", words=f"That is too long; a message has at most {MAX_MESSAGE} characters.")
    bare = text.strip().rstrip(".!").lower()
    if bare in _WORDS:
        return Move("accept" if bare == "accept" else "quit")
    match = _ACTION.fullmatch(text.strip())
    if match is None:
        return Move("wrong", words=f"That is no action. {FORMS}")
    if match[1].lower() == "say":
        return _read_message(match[2])
    items = read_items(match[2])
    if items is None:
        return Move("wrong", words="That is no offer. Write it like offer: 1 book 2 hat.")
    if any(number > count for number, count in zip(items, counts, strict=True)):
        return Move("wrong", words=f"There are only {items_text(counts)}.")
    return Move("offer", items)


def read_items(text: str) -> Amounts | None:
    """Return the numbers in a list such as `1 book, 2 hats`, 0 for a kind that is left out; None if it is no such
    list.
    """
    bare = " ".join(re.sub(r"[,.;]|\band\b", " ", text.lower()).split())
    found = _ITEM.findall(bare)
    if not found or " ".join(_ITEM.sub("", bare).split()) or len({kind for _, kind in found}) < len(found):
        return None
    numbers = {kind: int(number) for number, kind in found}
    book, hat, ball = (numbers.get(kind, 0) for kind in KINDS)
    return book, hat, ball


def items_text(items: Amounts) -> str:
    """Return `1 book 0 hat 2 ball`: always all kinds, always the singular."""
    return " ".join(f"{number} {kind}" for number, kind in zip(items, KINDS, strict=True))


def values_text(values: Amounts) -> str:
    """Return `book 1 hat 0 ball 2`."""
    return " ".join(f"{kind} {value}" for kind, value in zip(KINDS, values, strict=True))


def opening_text(counts: Amounts, values: Amounts) -> str:
    """Return the first observation of an agent: the items, its values, and the possible actions."""
    return f"Items: {items_text(counts)}. Your values: {values_text(values)}. {FORMS}"


def offer_text(items: Amounts, value: int) -> str:
    """Return the text of an offer that gives the reader these items."""
    return f"They offer: you get {items_text(items)}, worth {value} to you."


def turns_text(number: int) -> str:
    """Return the line about the turns that are left, both agents' together, this one included."""
    return f"Turns left: {number}."


def read_opening(text: str) -> tuple[Amounts, Amounts] | None:
    """Return items and values of `opening_text`, wherever it is in a text; None without it."""
    match = _OPENING.search(text)
    if match is None:
        return None
    book, hat, ball, first, second, third = (int(number) for number in match.groups())
    return (book, hat, ball), (first, second, third)


def read_offer(text: str) -> Amounts | None:
    """Return the items of the last `offer_text` that is a line of a text; None without one."""
    found = _OFFER.findall(text)
    if not found:
        return None
    book, hat, ball = (int(number) for number in found[-1])
    return book, hat, ball


def read_turns(text: str) -> int | None:
    """Return the number of `turns_text` at the end of a text; None without it."""
    match = _TURNS.search(text)
    return None if match is None else int(match[1])


def _read_message(words: str) -> Move:
    """Return a message as one line of printable text, so that nobody can write what looks like a line of the game."""
    shown = "".join(character if character.isprintable() else " " for character in words)
    shown = " ".join(shown.split())
    if not shown:
        return Move("wrong", words="That message is empty. Write it like say: hello.")
    if len(shown) > MAX_MESSAGE:
        return Move("wrong", words=f"That is too long; a message has at most {MAX_MESSAGE} characters.")
    return Move("say", words=shown)
