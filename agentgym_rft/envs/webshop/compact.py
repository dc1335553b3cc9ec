"""The mode `compact`, ours: short pages for small models, with results that have numbers instead of asins.

It says what `text` says, except the instruction, which a card can repeat from `info["goal"]`, and the names of buttons
that every page of a kind has. A result is opened by its number on the page: `click[3]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentgym_rft.envs.base import Expert
from agentgym_rft.envs.webshop.pages import Look, Node
from agentgym_rft.envs.webshop.session import Session

_HEAD = "Instruction:"
_NUMBER = re.compile(r"click\[(\d{1,2})\](?s:.*)")
_UNSAID = frozenset({"Rating: N.A."})


def as_compact(nodes: Sequence[Node]) -> str:
    """Return the nodes of a page as lines.

    Example of results and of a product:

        Page 1 (Total results: 24)
        1 Zalmora Herbal Tea For Office $4.99
        2 Korvell Fruit Tea $7.5 to $9.0

        Zalmora Herbal Tea For Office
        Price: $4.99
        flavor name: mint; honey
    """
    if nodes[0].text != _HEAD:
        return "Search." if nodes[0].text == "WebShop" else f"Bought. Your score: {nodes[-3].text}"
    shown = [node for node in nodes[2:] if node.look is not Look.BUTTON and node.text not in _UNSAID]
    if any(node.look is Look.LINK for node in shown):
        return _results(shown)
    options, texts = _groups(shown)
    return "\n".join([*texts, *(f"{group}: {'; '.join(values)}" for group, values in options.items())])


def with_asin(action: str, links: Sequence[str]) -> str:
    """Return the action with the number of a result replaced by its asin; any other action as it is."""
    match = _NUMBER.fullmatch(action)
    number = int(match[1]) if match else 0
    return f"click[{links[number - 1].lower()}]" if 0 < number <= len(links) else action


def with_number(action: str, links: Sequence[str]) -> str:
    """Return the inverse of `with_asin`."""
    clicks = {f"click[{asin.lower()}]": f"click[{number}]" for number, asin in enumerate(links, 1)}
    return clicks.get(action.lower(), action)


class CompactPlayer:
    """A player that reads the mode `text`, playing where pages are shown in `compact`."""

    def __init__(self, player: Expert, session: Session) -> None:
        self._player = player
        self._session = session

    def act(self, observation: str) -> str:
        """Return the player's action, with numbers for asins."""
        return with_number(self._player.act(self._session.observation("text")), self._session.links())


def _results(nodes: Sequence[Node]) -> str:
    """Return the first node, then a line for each link with the texts that follow it."""
    lines = [nodes[0].text]
    number = 0
    for node in nodes[1:]:
        if node.look is Look.LINK:
            number += 1
            lines.append(str(number))
        else:
            lines[-1] += f" {node.text.strip()}"
    return "\n".join(lines)


def _groups(nodes: Sequence[Node]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the options by group, and the texts that are no name of a group."""
    options: dict[str, list[str]] = {}
    for node in nodes:
        if node.look is Look.OPTION:
            options.setdefault(node.group, []).append(node.text)
    texts = [text for node in nodes if node.look is Look.TEXT and (text := node.text.strip())]
    heads = list(options)
    return options, [text for at, text in enumerate(texts) if at >= len(heads) or text != heads[at].strip()]
