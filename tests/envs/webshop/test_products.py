import dataclasses

import pytest

from agentgym_rft.envs.webshop.products import clean_product, is_usable, search_document
from agentgym_rft.errors import DataError
from tests.envs.webshop.shops import RED_MUG, choices, raw


@pytest.mark.parametrize(
    ("pricing", "prices", "shown"),
    [
        ("$12.99", (12.99,), "$12.99"),
        ("$877.80", (877.8,), "$877.8"),
        ("$1,314.95", (1314.95,), "$1314.95"),
        ("$10.00 - $20.00", (10.0, 20.0), "$10.0 to $20.0"),
        ("$1.00 - $2.00 - $3.00", (1.0, 2.0), "$1.0 to $2.0"),
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
    ],
)
def test_prices_are_read_and_shown_as_in_the_original(pricing: str | None, prices: object, shown: str) -> None:
    product = clean_product(raw("B000000009", "A Mug", pricing=pricing), ["a"])
    assert (product.prices, product.price_text) == (prices, shown)


def test_options_and_query_are_lower_cased_and_slashes_become_bars() -> None:
    product = clean_product(RED_MUG, ["a"])
    assert product.options == (("size", ("s", "x | l")), ("color", ("red", "blue")))
    assert product.query == "mugs"


def test_a_group_without_values_is_left_out_and_a_single_text_is_one_bullet() -> None:
    entry = raw(
        "B000000009", "A Mug", customization_options={**choices(Size=["S"]), "Fit": None}, small_description="one"
    )
    product = clean_product(entry, ["a"])
    assert product.options == (("size", ("s",)),)
    assert product.bullets == ("one",)


def test_the_search_sees_title_description_first_bullet_and_options() -> None:
    entry = {**RED_MUG, "full_description": "Of CLAY."}
    text = search_document(clean_product(entry, ["hidden"]))
    assert text == "harbor coffee mug of clay. easy to clean size: s, x | l, and color: red, blue"


def test_a_product_without_bullets_can_be_searched() -> None:
    product = dataclasses.replace(clean_product(RED_MUG, []), bullets=(), options=())
    assert search_document(product) == "harbor coffee mug   "


@pytest.mark.parametrize(
    ("asin", "usable"), [("B000000001", True), ("nan", False), ("B0000000012", False), ("", False)]
)
def test_entries_without_a_proper_asin_are_skipped(asin: str, usable: bool) -> None:
    assert is_usable({"asin": asin}) is usable
    assert not is_usable({})


@pytest.mark.parametrize(
    "changes", [{"full_description": None}, {"query": 7}, {"customization_options": ["x"]}, {"pricing": "$a"}]
)
def test_a_damaged_entry_is_refused_with_its_asin(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match="B000000009"):
        clean_product(raw("B000000009", "A Mug", **changes), ["a"])
