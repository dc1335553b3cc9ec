"""Scripted players of the question answering environment."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from agentgym_rft.envs.search_qa.relations import read_fact, read_question
from agentgym_rft.errors import EnvError

_QUESTION = re.compile(r"^Question: (.+)$", re.MULTILINE)
_DOCUMENT = re.compile(r"^\[\d+\] (.+)\n(.+)$", re.MULTILINE)


class OraclePlayer:
    """Searches for the titles that it was told, one after the other, then gives the answer that it was told."""

    def __init__(self, path: tuple[str, ...], answer: str) -> None:
        self._actions = [f"answer[{answer}]", *(f"search[{title}]" for title in reversed(path))]

    def act(self, observation: str) -> str:
        """Return the next action; the answer for ever once the searches are done."""
        return self._actions.pop() if len(self._actions) > 1 else self._actions[0]


class GuessingPlayer:
    """Searches for a title drawn at random, and answers with one a quarter of the time."""

    def __init__(self, rng: np.random.Generator, titles: Sequence[str]) -> None:
        self._rng, self._titles = rng, titles

    def act(self, observation: str) -> str:
        """Return the next action."""
        title = self._titles[int(self._rng.integers(len(self._titles)))]
        return f"answer[{title}]" if self._rng.random() < 0.25 else f"search[{title}]"


class ReadingPlayer:
    """Takes the question apart, looks up one fact after the other and answers with the last.

    At rate `noise` it looks up something else that it has read of. If a document does not show up it answers with what
    it has, which is wrong.
    """

    def __init__(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> None:
        asked = _QUESTION.search(observation)
        parts = read_question(asked[1]) if asked is not None else None
        if parts is None:
            raise EnvError("The observation has no question of this environment; give the one that reset returned.")
        self._known, relations = parts
        self._relations = list(relations[::-1])
        self._rng = rng
        self._noise = noise
        self._documents: dict[str, str] = {}
        self._searched: set[str] = set()

    def act(self, observation: str) -> str:
        """Return the next action."""
        self._documents.update(_DOCUMENT.findall(observation))
        self._follow()
        others = sorted(self._documents.keys() - {self._known})
        if self._relations and others and self._rng.random() < self._noise:
            return f"search[{others[int(self._rng.integers(len(others)))]}]"
        if self._relations and self._known not in self._searched:
            self._searched.add(self._known)
            return f"search[{self._known}]"
        return f"answer[{self._known}]"

    def _follow(self) -> None:
        """Go along the relations as far as the documents that were read tell."""
        while self._relations and self._known in self._documents:
            value = read_fact(self._relations[-1], self._documents[self._known])
            if value is None:
                return
            self._known = value
            self._relations.pop()
