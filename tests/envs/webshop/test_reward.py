import dataclasses

import pytest

from agentgym_rft.envs.webshop.goals import Goal
from agentgym_rft.envs.webshop.products import clean_product
from agentgym_rft.envs.webshop.reward import (
    COLORS,
    count_exact_options,
    count_options,
    has_attribute,
    is_similar,
    judge,
    normal_color,
    title_score,
    type_factor,
)
from tests.envs.webshop.shops import RED_MUG

MUG = clean_product(RED_MUG, ["easy clean", "bpa free"])
GOAL = Goal(
    id="template/B000000001/0",
    asin="B000000001",
    title=MUG.title,
    category=MUG.category,
    query=MUG.query,
    product_category=MUG.product_category,
    instruction="Find me easy clean, bpa free mugs with color: red, and size: s",
    attributes=("easy clean", "bpa free"),
    options=(("color", "red"), ("size", "s")),
    price_upper=30.0,
)


def _nouns(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split())


def _reward(chosen: dict[str, str], price: float = 19.99, **changes: object) -> float:
    return judge(dataclasses.replace(GOAL, **changes), MUG, price, chosen, _nouns).reward  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "price", "expected"),
    [
        ({"color": "red", "size": "s"}, 19.99, 5 / 5),
        ({"color": "red"}, 19.99, 4 / 5),
        ({}, 19.99, 3 / 5),
        ({}, 30.01, 2 / 5),
        ({"color": "red", "size": "s"}, 30.0, 5 / 5),  # the cap itself is not too much
        ({"color": "blue", "size": "x | l"}, 19.99, 3 / 5),
    ],
)
def test_the_reward_is_the_share_of_attributes_options_and_price(
    chosen: dict[str, str], price: float, expected: float
) -> None:
    assert _reward(chosen, price) == expected


def test_another_kind_of_product_lowers_the_reward() -> None:
    other = {"query": "shoes", "product_category": "Clothing › Shoes", "options": (), "attributes": ("bpa free",)}
    assert _reward({}, **other) == 1.0  # all nouns are shared
    assert _reward({}, title="coffee pot with lid and saucer", **other) == 0.5  # one of six
    assert _reward({}, title="coffee " + "word " * 12, **other) == pytest.approx(0.1)
    assert _reward({}, title="running shoe", **other) == 0.0


@pytest.mark.parametrize(
    ("is_match", "score", "factor"),
    [(True, 0.5, 1), (True, 0.15, 1), (False, 0.2, 0.5), (False, 0.21, 1), (True, 0.09, 0.1), (True, 0.0, 0)],
)
def test_a_low_title_score_overrides_a_match(is_match: bool, score: float, factor: float) -> None:
    assert type_factor(is_match, score) == factor


def test_the_title_score_divides_by_all_wanted_nouns_repetitions_included() -> None:
    assert title_score(("mug", "cup"), ("mug", "mug", "lid")) == 1 / 3
    assert title_score(("mug",), ()) == 0.2


@pytest.mark.parametrize(
    ("left", "right", "similar"),
    [
        ("large", "x-large", True),  # all words of one are in the other
        ("blue", "eausb512-dark blue", True),
        ("Easy-Clean!", "easy clean", True),
        ("easy clean", "easy to clean up", True),
        ("small", "large", False),
        ("größe", "gre", True),  # letters that are not ASCII are dropped
        ("", "", False),
    ],
)
def test_similar_texts_are_those_of_the_token_set_ratio(left: str, right: str, similar: bool) -> None:
    assert is_similar(left, right) is similar


def test_the_ratio_is_rounded_before_it_is_compared() -> None:
    # 2 * 71 / (82 + 84) = 85.54 %, which rounds to 86; 85.44 % would round to 85.
    left, right = "a" * 71 + "b" * 11, "a" * 71 + "c" * 13
    assert is_similar(left, right)
    assert not is_similar("a" * 70 + "b" * 12, "a" * 70 + "c" * 12)  # 85.37 %


def test_the_first_colour_by_alphabet_stands_for_the_whole_option() -> None:
    assert len(COLORS) == 102
    assert list(COLORS) == sorted(COLORS)
    assert normal_color("dark blue") == "blue"
    assert normal_color("redwood tan") == "red"
    assert normal_color("x-large") == "x-large"


def test_a_pair_is_a_colour_only_if_a_part_equals_one() -> None:
    assert count_options((("color", "blue"),), {"style": "light blue"}) == 1  # both are `blue`
    assert count_options((("color", "dark blue"),), {"color": "dark blue"}) == 1  # `blue` is a word of the pair
    assert count_options((("size", "large"),), {"size": "x-large"}) == 0
    assert count_options(("x-large",), {"size": "large"}) == 1


def test_one_choice_can_satisfy_several_wishes() -> None:
    assert count_options(("blue", "dark blue"), {"color": "blue"}) == 2
    assert count_exact_options(("blue", "dark blue"), {"color": "blue"}) == 1


def test_strict_options_ask_for_the_very_value_in_its_group() -> None:
    wanted = (("size", "x-large"), ("color", "blue"))
    assert count_exact_options(wanted, {"size": "x-large", "color": "blue"}) == 2
    assert count_exact_options(wanted, {"size": "large", "color": "dark blue"}) == 0
    assert count_exact_options(wanted, {"color": "x-large", "size": "blue"}) == 0
    verdict = judge(
        dataclasses.replace(GOAL, options=("x-large",)), MUG, 1.0, {"size": "large"}, _nouns, is_strict=True
    )
    assert verdict.r_option == 0.0


def test_attributes_are_looked_for_in_the_texts_too() -> None:
    product = dataclasses.replace(
        MUG, attributes=("hand made",), bullets=("Machine", "WASH only"), description="Long lasting"
    )
    assert has_attribute(product, "machine wash")  # bullets are joined
    assert has_attribute(product, "long lasting")
    assert has_attribute(product, "coffee mug")
    assert not has_attribute(product, "Long lasting")  # the wish itself is not lower-cased
    assert not has_attribute(product, "gluten free")


def test_the_verbose_info_has_the_originals_keys() -> None:
    verdict = judge(GOAL, MUG, 19.99, {"color": "red"}, _nouns)
    assert verdict.verbose(GOAL) == {
        "r_type": 1.0,
        "r_att": 1.0,
        "w_att": 0.4,
        "query_match": True,
        "category_match": True,
        "title_score": 1.0,
        "r_option": 0.5,
        "w_option": 0.4,
        "r_price": True,
        "w_price": 0.2,
    }
    without = dataclasses.replace(GOAL, options=())
    assert "r_option" not in judge(without, MUG, 19.99, {}, _nouns).verbose(without)
