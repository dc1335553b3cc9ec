"""The nouns of a product title, which the reward compares.

The original asks spaCy, whose models are not on PyPI. `lexicon_nouns()` needs nothing: it takes the words of a title
apart and drops those that are no noun there. `SpacyNouns` is for exact runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Protocol

from agentgym_rft.errors import ConfigError

if TYPE_CHECKING:
    from spacy.language import Language

TEXTS_KEPT = 65536  # taggings a tagger remembers, one for each distinct text
_LONGEST_KEPT = 4096  # characters; longer texts are tagged anew each time
_WORD = re.compile(r"[^\W\d_](?:\.[^\W\d_]\b)++\.?|[^\W_]+(?:['\u2019][^\W_]+)*+")  # D.o.n., or a word
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_NOUN_TAGS = ("NOUN", "PROPN")


class NounTagger(Protocol):
    """Finds the nouns of a text."""

    def nouns(self, text: str) -> tuple[str, ...]:
        """Return the nouns and proper nouns in lower case, in order, repeats kept."""
        ...


class LexiconNouns:
    """Takes every word as a noun that is not in a list of other words and does not end or look like one."""

    def __init__(self, other_words: Iterable[str], other_endings: tuple[str, ...]) -> None:
        self._other_words = frozenset(other_words)
        self._other_endings = other_endings
        self._kept = lru_cache(maxsize=TEXTS_KEPT)(self._nouns)

    def nouns(self, text: str) -> tuple[str, ...]:
        """Return the nouns and proper nouns in lower case, in order, repeats kept."""
        return self._kept(text) if len(text) <= _LONGEST_KEPT else self._nouns(text)

    def _nouns(self, text: str) -> tuple[str, ...]:
        words = (_POSSESSIVE.sub("", word) for word in _WORD.findall(text.lower()))
        return tuple(word for word in words if self._is_noun(word))

    def _is_noun(self, word: str) -> bool:
        if len(word) < 2 or word[0].isdigit() or word in self._other_words:
            return False
        return not (len(word) > 5 and word.endswith(self._other_endings))


@cache
def lexicon_nouns() -> LexiconNouns:
    """Return the bundled tagger, one per process; how its list was made is said in the list."""
    text = resources.files("agentgym_rft.envs.webshop").joinpath("data/other_words.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    words = [word for line in lines for word in line.split()]
    endings = tuple(word[1:] for word in words if word.startswith("-"))
    return LexiconNouns((word for word in words if not word.startswith("-")), endings)


class SpacyNouns:
    """The tags of a spaCy model; needs the extra `spacy` and the model. Loading takes about a second."""

    def __init__(self, model: str = "en_core_web_sm") -> None:
        self._language = _spacy_model(model)
        self._kept = lru_cache(maxsize=TEXTS_KEPT)(self._nouns)

    def nouns(self, text: str) -> tuple[str, ...]:
        """Return the nouns and proper nouns in lower case, in order, repeats kept."""
        return self._kept(text) if len(text) <= _LONGEST_KEPT else self._nouns(text)

    def _nouns(self, text: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in self._language(text) if token.pos_ in _NOUN_TAGS)


def _spacy_model(name: str) -> Language:
    try:
        import spacy
    except ImportError as error:
        raise ConfigError("The tagger 'spacy' needs the extra: pip install 'agentgym-rft[spacy]'.") from error
    try:
        # The parser and the names are not asked for, and take half of the time.
        return spacy.load(name, exclude=["parser", "ner"])
    except OSError as error:
        raise ConfigError(
            f"spaCy has no model '{name}'; get it with: python -m spacy download {name}, or give the path of a model."
        ) from error
