"""The Porter stemmer with its author's two departures (bli -> ble, logi -> log), as in Lucene's PorterStemFilter.

Source: M. F. Porter 1980, "An algorithm for suffix stripping", and the departures listed on its author's page.
"""

from __future__ import annotations

# Rules are tried in this order; the first suffix that fits ends its step, whether or not its condition holds.
_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """Return the stem of a lower-case word; words of one or two letters are their own stem."""
    if len(word) <= 2:
        return word
    word = _final_y(_past_and_gerund(_plural(word)))
    if len(word) > 1:
        word = _replaced(word, _STEP_2)
    word = _replaced(word, _STEP_3)
    if len(word) > 1:
        word = _without_ending(word)
    return _final_e_and_l(word)


def _shape(word: str) -> str:
    """One letter for each of the word: `v` vowel, `c` consonant. A y after a consonant is a vowel."""
    shape = ""
    for letter in word:
        is_vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if is_vowel else "c"
    return shape


def _measure(word: str) -> int:
    """Return m of the paper: how often a consonant follows a vowel."""
    return _shape(word).count("vc")


def _ends_in_double_consonant(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c"


def _ends_in_short_syllable(word: str) -> bool:
    """Return whether it ends in consonant, vowel, consonant other than w, x and y: as in "hop"."""
    return len(word) > 2 and word[-1] not in "wxy" and _shape(word)[-3:] == "cvc"


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    if word.endswith("s") and word[-2] != "s":
        return word[:-1]
    return word


def _past_and_gerund(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            base = word[: -len(suffix)]
            return _repaired(base) if "v" in _shape(base) else word
    return word


def _repaired(base: str) -> str:
    """Return the end of a word whose -ed or -ing was cut off: hop(p)ing, fil(e)ing."""
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    if _ends_in_double_consonant(base):
        return base if base[-1] in "lsz" else base[:-1]
    if _measure(base) == 1 and _ends_in_short_syllable(base):
        return base + "e"
    return base


def _final_y(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and "v" in _shape(word[:-1]) else word


def _replaced(word: str, rules: tuple[tuple[str, str], ...]) -> str:
    for suffix, replacement in rules:
        if word.endswith(suffix):
            base = word[: -len(suffix)]
            return base + replacement if _measure(base) > 0 else word
    return word


def _without_ending(word: str) -> str:
    for suffix in _STEP_4:
        if not word.endswith(suffix):
            continue
        base = word[: -len(suffix)]
        if suffix == "ion" and not base.endswith(("s", "t")):
            continue
        return base if _measure(base) > 1 else word
    return word


def _final_e_and_l(word: str) -> str:
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _ends_in_short_syllable(word[:-1]))):
        word = word[:-1]
    if word.endswith("ll") and measure > 1:
        word = word[:-1]
    return word
