"""The word-break class of each character (Unicode Standard Annex 29), as a letter.

The standard library holds no word-break property, so the class is derived from the general category and the name of a
character. That gives the property's value except for signs such as Tangut, radicals and squared katakana. The classes:
`A` alphabetic, `N` digit, `K` katakana, `_` connector, `M` between letters, `m` between digits, `b` between both, `X` a
mark that belongs to what precedes it, `Z` zero-width joiner, `I` Han, `H` hiragana, `T` South-East Asian, `E` emoji,
`F` emoji modifier, `R` half a flag, `O` anything else.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache

_SIGNS = {
    **dict.fromkeys(":·\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a", "M"),
    **dict.fromkeys(",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b", "m"),
    **dict.fromkeys(".'\u2018\u2019\u2024\ufe52\uff07\uff0e", "b"),
    **dict.fromkeys("\u3031\u3032\u3033\u3034\u3035\u309b\u309c\u30a0\u30fc\uff70", "K"),
    **dict.fromkeys("\u02c2\u02c3\u02c4\u02c5\u055a\u055b\u055c\u055e\u058a\u05f3", "A"),
    "\u066b": "N",
    "\u202f": "_",
    "\u200b": "O",
    "\u200d": "Z",
    "\uff9e": "X",
    "\uff9f": "X",
}
_CLASS_OF_NAME = (
    (("CJK ", "KANGXI ", "IDEOGRAPHIC ", "HANGZHOU "), "I"),
    (("HIRAGANA ",), "H"),
    (("KATAKANA ", "HALFWIDTH KATAKANA ", "CIRCLED KATAKANA "), "K"),
    (("THAI ", "LAO ", "MYANMAR ", "KHMER ", "TAI ", "NEW TAI ", "AHOM "), "T"),
)
# First and last code points of Extended_Pictographic without its ASCII neighbours, from emoji-data of Unicode 14.
_EMOJI_RANGES = (
    (0xA9, 0xA9), (0xAE, 0xAE), (0x203C, 0x203C), (0x2049, 0x2049), (0x2122, 0x2122), (0x2139, 0x2139),
    (0x2194, 0x2199), (0x21A9, 0x21AA), (0x231A, 0x231B), (0x2328, 0x2328), (0x2388, 0x2388), (0x23CF, 0x23CF),
    (0x23E9, 0x23F3), (0x23F8, 0x23FA), (0x24C2, 0x24C2), (0x25AA, 0x25AB), (0x25B6, 0x25B6), (0x25C0, 0x25C0),
    (0x25FB, 0x25FE), (0x2600, 0x2605), (0x2607, 0x2612), (0x2614, 0x2685), (0x2690, 0x2705), (0x2708, 0x2712),
    (0x2714, 0x2714), (0x2716, 0x2716), (0x271D, 0x271D), (0x2721, 0x2721), (0x2728, 0x2728), (0x2733, 0x2734),
    (0x2744, 0x2744), (0x2747, 0x2747), (0x274C, 0x274C), (0x274E, 0x274E), (0x2753, 0x2755), (0x2757, 0x2757),
    (0x2763, 0x2767), (0x2795, 0x2797), (0x27A1, 0x27A1), (0x27B0, 0x27B0), (0x27BF, 0x27BF), (0x2934, 0x2935),
    (0x2B05, 0x2B07), (0x2B1B, 0x2B1C), (0x2B50, 0x2B50), (0x2B55, 0x2B55), (0x3030, 0x3030), (0x303D, 0x303D),
    (0x3297, 0x3297), (0x3299, 0x3299), (0x1F000, 0x1F0FF), (0x1F10D, 0x1F10F), (0x1F12F, 0x1F12F),
    (0x1F16C, 0x1F171), (0x1F17E, 0x1F17F), (0x1F18E, 0x1F18E), (0x1F191, 0x1F19A), (0x1F1AD, 0x1F1E5),
    (0x1F201, 0x1F20F), (0x1F21A, 0x1F21A), (0x1F22F, 0x1F22F), (0x1F232, 0x1F23A), (0x1F23C, 0x1F23F),
    (0x1F249, 0x1F3FA), (0x1F400, 0x1F53D), (0x1F546, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F774, 0x1F77F),
    (0x1F7D5, 0x1F7FF), (0x1F80C, 0x1F80F), (0x1F848, 0x1F84F), (0x1F85A, 0x1F85F), (0x1F888, 0x1F88F),
    (0x1F8AE, 0x1F8FF), (0x1F90C, 0x1F93A), (0x1F93C, 0x1F945), (0x1F947, 0x1FAFF), (0x1FC00, 0x1FFFD),
)  # fmt: skip
_EMOJI_FIRST = tuple(first for first, _ in _EMOJI_RANGES)


def word_classes(text: str) -> str:
    """Return the class of every character of a text, a string of the same length."""
    return text.translate(_TABLE)


@lru_cache(maxsize=4096)
def word_class(character: str) -> str:
    """Return the class of one character."""
    if character in _SIGNS:
        return _SIGNS[character]
    code = ord(character)
    if 0x1F3FB <= code <= 0x1F3FF:
        return "F"
    if 0x1F1E6 <= code <= 0x1F1FF:
        return "R"
    if _is_emoji(code):
        return "E"
    return _class_of_category(unicodedata.category(character), character)


def _is_emoji(code: int) -> bool:
    place = bisect_right(_EMOJI_FIRST, code) - 1
    return place >= 0 and code <= _EMOJI_RANGES[place][1]


def _class_of_category(category: str, character: str) -> str:
    if category == "Nd":
        return "N"
    if category == "Pc":
        return "_"
    if category in ("Mn", "Mc", "Me", "Cf"):
        return "X"
    if category[0] == "L" or category == "Nl" or "\u24b6" <= character <= "\u24e9":
        return _class_of_letter(unicodedata.name(character, ""))
    return "O"


def _class_of_letter(name: str) -> str:
    for prefixes, kind in _CLASS_OF_NAME:
        if name.startswith(prefixes):
            return kind
    return "A"


class _Table(dict[int, str]):
    """A table for `str.translate`: ASCII is stored, the rest computed, so that the table never grows."""

    def __missing__(self, code: int) -> str:
        return word_class(chr(code))


_TABLE = _Table({code: word_class(chr(code)) for code in range(128)})
