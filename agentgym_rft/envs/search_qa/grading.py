"""Compares an answer with the right ones.

Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1: exact match and F1 over words, both after normalisation.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Return the text in lower case without punctuation, articles and additional spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_exact_match(text: str, answers: Iterable[str]) -> bool:
    """Return True if the text is one of the answers, both normalised."""
    return normalised(text) in {normalised(answer) for answer in answers}


def best_f1(text: str, answers: Iterable[str]) -> float:
    """Return the highest F1 of the words of the text and those of an answer, 0 to 1."""
    return max(_f1(normalised(text).split(), normalised(answer).split()) for answer in answers)


def _f1(given: list[str], right: list[str]) -> float:
    shared = (Counter(given) & Counter(right)).total()
    return 2 * shared / (len(given) + len(right)) if shared else 0.0
