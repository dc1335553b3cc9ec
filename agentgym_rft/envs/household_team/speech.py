"""Messages between agents: the actions that send them, and the lines in which the others read them."""

from __future__ import annotations

import re

_SAY = re.compile(r"say:(.*)", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LINE = re.compile(r"(planner|worker_\d+) says: (.*)")


def spoken(action: str) -> str | None:
    """Return the message of an action `say: TEXT`, on one line and without control characters; None for another action.

    Lone surrogates, which no file can hold, become question marks.
    """
    match = _SAY.fullmatch(action.strip())
    if match is None:
        return None
    text = _CONTROL.sub(" ", match[1].encode("utf-8", "replace").decode())
    return " ".join(text.split())


def line(speaker: str, message: str) -> str:
    """Return a message as the others read it."""
    return f"{speaker} says: {message}"


def read(observation: str) -> tuple[str, list[tuple[str, str]]]:
    """Split an observation into the house's text and the messages, as (speaker, message)."""
    own: list[str] = []
    messages: list[tuple[str, str]] = []
    for text in observation.split("\n"):
        match = _LINE.fullmatch(text)
        if match is None:
            own.append(text)
        else:
            messages.append((match[1], match[2]))
    return "\n".join(own), messages
