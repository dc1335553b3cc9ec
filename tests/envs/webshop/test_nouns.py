"""Noun taggers."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

from agentgym_rft.envs.webshop.nouns import SpacyNouns, lexicon_nouns
from agentgym_rft.envs.webshop.reward import title_score, type_factor
from agentgym_rft.errors import ConfigError

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "webshop_real"
POWER_CORD = "Saireed UL Listed 2 Prong Power Cord for JBL Bar 3.1 Bar 2.1 Channel 4K Ultra HD Soundbar"
SOCKET = "BRST AC Power Cord Outlet Socket Cable Plug Lead for Panasonic SC-HT830V DVD/VCR Combo Home Theater System"


@pytest.mark.parametrize(
    ("goal", "bought", "spacy_score"),
    [
        (
            "adidas Unisex-Adult D.o.n. Issue 2 Basketball Shoe",
            "adidas Unisex-Adult D.o.n. Issue 2 Indoor Court Shoe",
            0.85,
        ),
        (POWER_CORD + " Home Theater System Subwoofer", SOCKET, 0.31),
        (POWER_CORD, SOCKET, 0.17),
        (
            "Rusticware 921ORB Kitchen and Bath Cabinet Knob",
            "Minkissy 2pcs Stainless Steel Eyebrow Tweezers Blackhead Acne Remover Portable Makeup Tweezers (Silver)",
            0.0,
        ),
    ],
)
def test_the_lexicon_gives_the_title_scores_that_spacy_gave_the_original(
    goal: str, bought: str, spacy_score: float
) -> None:
    # The scores are those of the original's own unit test (princeton-nlp/WebShop, test_goal.py), to its tolerance.
    nouns = lexicon_nouns().nouns
    assert title_score(nouns(bought), nouns(goal)) == pytest.approx(spacy_score, abs=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Women's Casual T-Shirt", ("women", "shirt")),
        ("Shirt, shirt; SHIRT", ("shirt", "shirt", "shirt")),
        ("2 Packs of 12 oz", ("packs", "oz")),
        ("Portable washable colorful", ()),
        ("", ()),
        ("日本 café", ("日本", "café")),
    ],
)
def test_the_lexicon_keeps_nouns_with_repeats_in_lower_case(text: str, expected: tuple[str, ...]) -> None:
    assert lexicon_nouns().nouns(text) == expected


def test_the_lexicon_takes_very_long_texts() -> None:
    assert len(lexicon_nouns().nouns("sofa " * 100_000)) == 100_000


def test_one_lexicon_serves_the_process() -> None:
    assert lexicon_nouns() is lexicon_nouns()


def test_a_missing_spacy_model_is_named() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(ConfigError, match="no model 'en_no_such_model'"):
        SpacyNouns("en_no_such_model")


def test_spacy_tags_become_lower_case_nouns(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    language = spacy.blank("en")
    ruler = language.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "sofa"}]], {"POS": "NOUN"})
    ruler.add([[{"LOWER": "ikea"}]], {"POS": "PROPN"})
    ruler.add([[{"LOWER": "red"}]], {"POS": "ADJ"})
    language.to_disk(tmp_path)
    tagger = SpacyNouns(str(tmp_path))
    assert tagger.nouns("IKEA red Sofa sofa") == ("ikea", "sofa", "sofa")
    assert tagger.nouns("") == ()


@pytest.mark.skipif(not (REAL / "traces_text.jsonl.xz").exists(), reason="needs the recorded episodes")
def test_the_lexicon_gives_the_recorded_type_factor_for_what_was_asked_and_mostly_otherwise() -> None:
    nouns = lexicon_nouns().nouns
    raw = json.loads((REAL / "items_shuffle_1000.json").read_text(encoding="utf-8"))
    titles = {entry["asin"]: entry["name"] for entry in raw}
    same: dict[bool, list[bool]] = {True: [], False: []}
    for name in ("traces_text.jsonl.xz", "traces_text_rich.jsonl.xz"):
        with lzma.open(REAL / name, "rt", encoding="utf-8") as lines:
            episodes = [json.loads(line) for line in lines]
        for episode in episodes:
            goal, last = episode["goal"], episode["steps"][-1]
            verbose, bought = last.get("verbose_info"), re.search(r"/done/[^/]+/([^/]+)/", last["url"])
            if verbose and bought is not None:
                score = title_score(nouns(titles[bought[1]]), nouns(goal["name"]))
                factor = type_factor(verbose["query_match"] or verbose["category_match"], score)
                same[bought[1] == goal["asin"]].append(factor == verbose["r_type"])
    assert len(same[True]) > 50
    assert all(same[True])
    assert sum(same[False]) > 0.8 * len(same[False])
