"""Turns text into search terms as Lucene's English analyzer does, with the standard library only.

Words by Unicode Standard Annex 29, without a final 's, in lower case, without 33 stop words, stemmed. Source: Lucene 9
(StandardTokenizer, EnglishPossessiveFilter, LowerCaseFilter, StopFilter, PorterStemFilter), which Anserini's
DefaultEnglishAnalyzer chains in this order.
"""

from __future__ import annotations

import re
from functools import lru_cache

from agentgym_rft.envs.text_search.porter import stem
from agentgym_rft.envs.text_search.word_classes import word_classes

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
MAX_WORD = 255  # characters; a longer word is cut into pieces of this length

# Possessive quantifiers: nothing is tried twice, so the time is linear in any text. Runs of connectors without a letter
# or digit are matched, too, for the same reason; `term` drops them.
_ASCII_WORD = re.compile(r"_*+(?:(?:[a-zA-Z]++(?:[:.'](?=[a-zA-Z]))?+|[0-9]++(?:[.,;'](?=[0-9]))?+)++_*+)++|_++")


def _class_pattern() -> re.Pattern[str]:
    marks = "[XZ]*+"
    connectors = f"(?:_{marks})*+"
    letters = f"A{marks}(?:[Mb]{marks}(?=A))?+"
    digits = f"N{marks}(?:[mb]{marks}(?=N))?+"
    run = f"(?:(?:K{marks})++|(?:{letters}|{digits})++)"
    word = f"{connectors}{run}(?:(?:_{marks})++{run})*+{connectors}"
    emoji = f"(?:E{marks}(?:F{marks})?+|F{marks})"
    flags = f"R{marks}R{marks}"
    south_east_asian = f"(?:T{marks})++"
    no_word = f"(?P<no_word>(?:_{marks})++|Z++)"
    return re.compile(f"Z*+{emoji}(?:(?<=Z){emoji})*+|{flags}|{word}|{south_east_asian}|[IH]{marks}|{no_word}")


_CLASS_WORD = _class_pattern()


def words(text: str) -> list[str]:
    """Return the words of a text as written, in order; runs of underscores may be among them."""
    if text.isascii():
        found = _ASCII_WORD.findall(text)
    else:
        matches = _CLASS_WORD.finditer(word_classes(text))
        found = [text[match.start() : match.end()] for match in matches if match.lastgroup is None]
    if max(map(len, found), default=0) > MAX_WORD:
        return [word[at : at + MAX_WORD] for word in found for at in range(0, len(word), MAX_WORD)]
    return found


def term(word: str) -> str | None:
    """Return the search term of a word; None for stop words and what is no word."""
    if word[-1] in "sS" and len(word) > 1 and word[-2] in "'\u2019\uff07":
        word = word[:-2]
    word = word.lower()
    return None if word in STOP_WORDS or not word.strip("_") else stem(word)


_term = lru_cache(maxsize=65536)(term)


def analyze(text: str) -> list[str]:
    """Return the search terms of a text, in order, repeats kept."""
    return [found for word in words(text) if (found := _term(word)) is not None]
