"""Replaces words of an episode by others, so that a model must copy words from its context instead of knowing them.

A small model that always meets the same few hundred words learns which one comes next; it does not look them up, and
fails on tasks with new words. With word substitution some words are replaced by others, the same way everywhere in
the episode, so that only looking up helps.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

_NUMBERED = re.compile(r"\b([a-z]+) (\d{1,2})\b")
_WORD = re.compile(r"[A-Za-z][a-z']{2,}|[A-Z]{3,}")
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"
_MADE_UP = 0.5  # share of replacements that are made of syllables; the others are words that were met before
_MOST_KEPT = 5000


class Wordbook:
    """Words of earlier episodes, from which replacements are drawn; oldest first, at most `_MOST_KEPT`."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._known: set[str] = set()

    def add(self, word: str) -> None:
        """Remember a word in lower case."""
        if word not in self._known and len(self.words) < _MOST_KEPT:
            self._known.add(word)
            self.words.append(word)


class WordSubstitution:
    """Replaces words of one episode, each always by the same other word in the same case, and numbers after a word.

    Args:
        rng: decides which words and by what.
        share: of the words that are replaced; 0: none.
        keep: words that are never replaced, in lower case: those of the action grammar and of fixed texts.
        book: where replacements come from, and where the words of this episode go.
        renumbers: `mug 2` becomes a mug of another number below 100, and no two mugs get the same.
    """

    def __init__(
        self, rng: np.random.Generator, share: float, keep: Collection[str], book: Wordbook, *, renumbers: bool = False
    ) -> None:
        self._rng, self._share, self._book, self._renumbers = rng, share, book, renumbers
        self._words = {word: word for word in keep}
        self._numbers: dict[str, list[str]] = {}  # by word: the new number of each old one

    def text(self, text: str) -> str:
        """Return the text in substitution."""
        if self._renumbers:
            text = _NUMBERED.sub(self._renumbered, text)
        return _WORD.sub(self._replaced, text) if self._share else text

    def info(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts of an environment's info in substitution."""
        changed = dict(info)
        if "goal" in info:
            changed["goal"] = self.text(str(info["goal"]))
        if "admissible_actions" in info:
            changed["admissible_actions"] = [self.text(action) for action in info["admissible_actions"]]
        return changed

    def _renumbered(self, match: re.Match[str]) -> str:
        word, number = match[1], int(match[2])
        if word not in self._numbers:
            self._numbers[word] = [str(other) for other in self._rng.permutation(100)]
        return f"{word} {self._numbers[word][number]}"

    def _replaced(self, match: re.Match[str]) -> str:
        word = match[0]
        other = self._words.get(word.lower())
        if other is None:
            other = self._words[word.lower()] = self._other(word.lower())
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    def _other(self, word: str) -> str:
        self._book.add(word)
        if self._rng.random() >= self._share:
            return word
        if self._rng.random() >= _MADE_UP:
            return self._book.words[int(self._rng.integers(len(self._book.words)))]
        syllables = 1 + int(self._rng.integers(1, 4))
        return "".join(self._letter(_CONSONANTS) + self._letter(_VOWELS) for _ in range(syllables))

    def _letter(self, letters: str) -> str:
        return letters[int(self._rng.integers(len(letters)))]
