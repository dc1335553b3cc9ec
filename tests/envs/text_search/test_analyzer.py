"""Words and terms of the search; the expected values are Lucene's."""

from __future__ import annotations

import pytest

from agentgym_rft.envs.text_search.analyzer import MAX_WORD, STOP_WORDS, analyze, words
from agentgym_rft.envs.text_search.porter import stem
from agentgym_rft.envs.text_search.word_classes import word_classes


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("cats", "cat"),
        ("feed", "feed"),
        ("agreed", "agre"),
        ("plastered", "plaster"),
        ("motoring", "motor"),
        ("sing", "sing"),
        ("conflated", "conflat"),
        ("sized", "size"),
        ("hopping", "hop"),
        ("falling", "fall"),
        ("hissing", "hiss"),
        ("fizzed", "fizz"),
        ("failing", "fail"),
        ("filing", "file"),
        ("happy", "happi"),
        ("sky", "sky"),
        ("relational", "relat"),
        ("conditional", "condit"),
        ("digitizer", "digit"),
        ("radically", "radic"),
        ("vietnamization", "vietnam"),
        ("feudalism", "feudal"),
        ("decisiveness", "decis"),
        ("sensibiliti", "sensibl"),
        ("triplicate", "triplic"),
        ("electrical", "electr"),
        ("hopefulness", "hope"),
        ("replacement", "replac"),
        ("adoption", "adopt"),
        ("communism", "commun"),
        ("probate", "probat"),
        ("rate", "rate"),
        ("cease", "ceas"),
        ("controll", "control"),
        ("roll", "roll"),
        ("yay", "yai"),
    ],
)
def test_the_stemmer_gives_the_stems_of_the_paper(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("technology", "technolog"), ("assembly", "assembl"), ("possibly", "possibl"), ("us", "us"), ("is", "is")],
)
def test_the_stemmer_has_the_departures_of_its_author(word: str, expected: str) -> None:
    assert stem(word) == expected


@pytest.mark.parametrize("word", ["s", "ss", "sss", "ies", "ied", "ing", "eed", "ed", "y", "yyy", "e", "ee", "ational"])
def test_the_stemmer_takes_words_that_are_all_suffix(word: str) -> None:
    assert 0 < len(stem(word)) <= len(word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("can't o'clock 'quoted'", ["can't", "o'clock", "quoted"]),
        ("3.5 1,000 10;5 4:30 9'6", ["3.5", "1,000", "10;5", "4", "30", "9'6"]),
        ("a.b a:b a,b a;b U.S.A.", ["a.b", "a:b", "a", "b", "a", "b", "U.S.A"]),
        ("32gb 5.a a.5 x2,5y", ["32gb", "5", "a", "a", "5", "x2,5y"]),
        ("t-shirt w/pockets 50%", ["t", "shirt", "w", "pockets", "50"]),
        ("snake_case _a_ __ _", ["snake_case", "_a_", "__", "_"]),
        ("", []),
        (" \t\n\x00", []),
    ],
)
def test_words_of_ascii_text_break_as_the_standard_says(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("café’s naïve", ["café’s", "naïve"]),
        ("cafe\u0301 x", ["cafe\u0301", "x"]),
        ("日本語", ["日", "本", "語"]),
        ("ひらがな", ["ひ", "ら", "が", "な"]),
        ("カタカナ語", ["カタカナ", "語"]),
        ("한국어 T恤", ["한국어", "T", "恤"]),
        ("ภาษาไทย x", ["ภาษาไทย", "x"]),
        ("❤️★✔x", ["❤️", "★", "✔", "x"]),
        ("👩\u200d👩\u200d👧🌸", ["👩\u200d👩\u200d👧", "🌸"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("5° — “x” × •", ["5", "x"]),
        ("soft\u00adhyphen \u200b x", ["soft\u00adhyphen", "x"]),
        ("‿ \u200d \u0301 é", ["é"]),
        ("é__1 _é_", ["é__1", "_é_"]),
    ],
)
def test_words_of_other_scripts_and_emoji_are_kept(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_ascii_text_is_split_alike_on_both_ways() -> None:
    text = "It's 3.5 in. (a:b) x_y, 1,000 U.S.A. t-shirt w/o 10;5 4:30 9'6 a,b _a_ 32gb"
    assert words(text + " é")[:-1] == words(text)


def test_terms_are_lower_case_stems_without_possessives_and_stop_words() -> None:
    assert analyze("The Women's Running Shoes, WITH Laces") == ["women", "run", "shoe", "lace"]
    assert analyze("men’s MEN'S") == ["men", "men"]
    assert analyze("__ _ é __") == ["é"]


def test_a_text_of_stop_words_has_no_terms() -> None:
    assert len(STOP_WORDS) == 33
    assert analyze(" ".join(sorted(STOP_WORDS)).upper()) == []


def test_a_word_longer_than_255_characters_is_cut() -> None:
    found = words("x" * 600)
    assert [len(word) for word in found] == [MAX_WORD, MAX_WORD, 90]


@pytest.mark.parametrize(
    "unit", ["_", "a_", "a.b'", "1,", "é\u0301_", "\u200d", "❤\ufe0f", "\U0001f1e9", "\ud800", "\x00"]
)
def test_a_megabyte_of_anything_is_split_in_linear_time(unit: str) -> None:
    # Quadratic time would be hours here.
    text = unit * (1_000_000 // len(unit))
    assert sum(map(len, words(text))) <= len(text)


def test_every_character_has_one_class() -> None:
    text = "".join(map(chr, range(0, 0x110000, 7)))
    classes = word_classes(text)
    assert len(classes) == len(text)
    assert set(classes) <= set("ANK_MmbXZIHTEFRO")
