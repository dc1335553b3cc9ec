"""Reads the number that a text answers with, exactly, and in time linear in the text."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 60  # of a number as written; more is no answer
MAX_EXPONENT = 30

_BOXED = "\\boxed{"
_BRACE = re.compile("[{}]")
_HASHES = re.compile(r"####([^\n]*)")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([+-]?[0-9,.]{1,80})\s*\}\s*\{\s*([+-]?[0-9,.]{1,80})\s*\}")
_NUMBER = r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"
_ONE = re.compile(rf"({_NUMBER})(?:/({_NUMBER}))?")
# Whatever might be a number or a part of one; each run is then a number as a whole, or there is no answer.
# The look-behind and the possessive quantifier keep the search linear in a text of signs only.
_RUN = re.compile(r"(?<![+-])[+-]*+[.]?[0-9][0-9a-zA-Z.,/^*+-]*(?:\s*/\s*[0-9][0-9.,]*)?")
_MINUS = str.maketrans("\u2212\u2013", "--")


def read_answer(text: str) -> Fraction | None:
    r"""Return the one number that a text answers with; None if there is none, or several that differ.

    If the text has `\boxed{...}`, only what is in boxes counts; else if it has `#### ...`, only what follows on these
    lines; else the whole text, in which no other number may occur. Numbers may have a sign, thousands separators,
    decimals, an exponent, or be fractions such as `3/4` and `\frac{3}{4}`.
    """
    plain = text.translate(_MINUS)
    parts = _boxes(plain) or _HASHES.findall(plain) or [plain]
    found: Fraction | None = None
    for run in {run for part in set(parts) for run in _runs(part)}:
        value = _number(run)
        if value is None or found not in (None, value):
            return None
        found = value
    return found


def _boxes(text: str) -> list[str]:
    r"""Return the content of each closed `\boxed{...}` with balanced braces."""
    found = []
    start = text.find(_BOXED)
    while start >= 0:
        at = start + len(_BOXED)
        end = _closing(text, at)
        if end is None:
            break
        found.append(text[at:end])
        start = text.find(_BOXED, end)
    return found


def _closing(text: str, start: int) -> int | None:
    """Return the place where the brace that opens at `start` is closed."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    return None


def _runs(text: str) -> list[str]:
    """Return each run of characters that looks like a number; it may turn out to be none."""
    return [match[0] for match in _RUN.finditer(_FRACTION.sub(_plain_fraction, text))]


def _plain_fraction(match: re.Match[str]) -> str:
    """Return `3/4` for a fraction in TeX, with a space before it where it would grow together with a number."""
    before = match.string[match.start() - 1 : match.start()]
    return f"{' ' if before.isalnum() else ''}{match[1]}/{match[2]} "


def _number(run: str) -> Fraction | None:
    """Return the value of a run such as `-1,200.50` or `3/4`, after trailing punctuation and a unit are taken off."""
    whole = re.sub(r"\s+", "", run)
    whole = re.sub(r"(?<=[0-9.])(?![eE][+-]?[0-9])[a-zA-Z]+$", "", whole.rstrip(".,*-")).rstrip(".,")
    match = _ONE.fullmatch(whole)
    if match is None:
        return None
    numerator = _decimal(match[1])
    denominator = Fraction(1) if match[2] is None else _decimal(match[2])
    return numerator / denominator if numerator is not None and denominator else None


def _decimal(text: str) -> Fraction | None:
    """Return the value of a decimal number; None for one that is too long, too large or has no digit."""
    mantissa, _, exponent = text.replace(",", "").lower().partition("e")
    num_digits = sum(character.isdigit() for character in mantissa)
    if not 1 <= num_digits <= MAX_DIGITS or len(exponent) > 4 or abs(int(exponent or 0)) > MAX_EXPONENT:
        return None
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
