import itertools
import random
from collections import Counter

import numpy as np
import pytest

from agentgym_rft.envs.webshop.goal_list import GoalRules, Goals, weighted_index
from agentgym_rft.envs.webshop.goals import HUMAN, NO_CAP, TEMPLATE, Pricing, read_humans, read_template
from agentgym_rft.envs.webshop.products import clean_product
from agentgym_rft.errors import DataError
from tests.envs.webshop.shops import BLUE_MUG, SHOE, catalog, choices, goals, raw

MANY_OPTIONS = raw(
    "B000000001",
    "A Mug",
    customization_options=choices(Size=["S", "M", "L"], Color=["Red", "Blue", "Red"], Trim=["A", "B", "C", "D"]),
)


def test_template_goals_are_all_combinations_with_groups_by_name() -> None:
    made = list(goals(catalog([MANY_OPTIONS]), kinds=(TEMPLATE,)))
    expected = list(itertools.product(["red", "blue", "red"], ["s", "m", "l"], ["a", "b", "c", "d"]))
    assert [tuple(value for _, value in goal.options) for goal in made] == expected
    assert made[0].instruction.startswith(
        "Find me easy clean mugs with color: red, and size: s, and trim: a, and price "
    )


def test_a_product_without_options_has_one_goal_and_no_with() -> None:
    (goal,) = goals(catalog([SHOE]), kinds=(TEMPLATE,))
    assert (goal.instruction, goal.options, goal.price_upper) == ("Find me non slip shoes", (), NO_CAP)


def test_human_goals_lose_their_full_stop_and_need_attributes() -> None:
    (goal,) = goals(catalog([BLUE_MUG]), kinds=(HUMAN,))
    assert goal.instruction == f"a blue mug, and price lower than {goal.price_upper:.2f} dollars"
    assert goal.options == ("blue",)
    assert goal.id == "human/B000000002/0"


def test_caps_are_one_of_the_next_four_tens_but_not_the_first() -> None:
    product = clean_product(raw("B000000001", "A Mug", pricing="$20.00"), [])
    caps = Counter(Pricing(seed).cap(product, "human/B000000001/0") for seed in range(400))
    assert set(caps) == {40.0, 50.0, 60.0}
    assert caps[60.0] > caps[50.0] > caps[40.0]  # the larger of two drawn from four


@pytest.mark.parametrize(("price", "capped"), [("$979.99", True), ("$980.00", False), ("$5,000", False)])
def test_a_price_near_a_thousand_has_no_cap(price: str, capped: bool) -> None:
    product = clean_product(raw("B000000001", "A Mug", pricing=price), [])
    assert (Pricing().cap(product, "x") < NO_CAP) is capped


def test_prices_of_ranges_depend_on_seed_and_product_only() -> None:
    product = clean_product(BLUE_MUG, [])
    drawn = {Pricing(seed).price(product) for seed in range(20)}
    assert len(drawn) == 20
    assert all(10 <= price <= 20 for price in drawn)
    assert Pricing(3).price(product) == Pricing(3).price(product)
    assert Pricing(3, prices={"B000000002": 11.5}).price(product) == 11.5


def test_the_original_has_one_cap_for_all_templates_of_a_product() -> None:
    shared = goals(catalog([MANY_OPTIONS]), kinds=(TEMPLATE,))
    assert len({goal.price_upper for goal in shared}) == 1
    own = goals(catalog([MANY_OPTIONS]), kinds=(TEMPLATE,), pricing=Pricing(cap_per_goal=True))
    assert len({goal.price_upper for goal in own}) == 3
    given = goals(catalog([MANY_OPTIONS]), kinds=(TEMPLATE,), pricing=Pricing(caps={"B000000001": 70.0}))
    assert {goal.price_upper for goal in given} == {70.0}


def test_at_most_so_many_variants_of_a_product_and_none_twice() -> None:
    shop = catalog([MANY_OPTIONS])
    few = goals(shop, kinds=(TEMPLATE,), max_variants=8)
    assert len(few) == 8
    assert len({goal.content() for goal in few}) == 8
    again = goals(catalog([MANY_OPTIONS]), kinds=(TEMPLATE,), max_variants=8)
    assert [goal.id for goal in few] == [goal.id for goal in again]
    assert len(goals(shop, kinds=(TEMPLATE,), max_variants=1000)) == 24  # of 36, red being there twice


@pytest.mark.parametrize("max_variants", [None, 8, 1000])
def test_goals_are_found_by_their_ids(max_variants: int | None) -> None:
    made = goals(catalog([MANY_OPTIONS, BLUE_MUG, SHOE]), max_variants=max_variants)
    for index in range(len(made)):
        assert made.id_of(index) == made[index].id
        assert made.index_of(made[index].id) == index
    assert made[0:2] == [made[0], made[1]]
    with pytest.raises(IndexError):
        made[len(made)]


@pytest.mark.parametrize(
    "goal_id",
    [
        "",
        "template/B000000001/36",
        "template/B000000001/-1",
        "template/B000000001/01",
        "template/B0/0",
        "human/x",
        "a/b/c",
    ],
)
def test_an_unknown_goal_id_is_a_key_error(goal_id: str) -> None:
    with pytest.raises(KeyError):
        goals(catalog([MANY_OPTIONS])).index_of(goal_id)


def test_rare_attributes_weigh_more_and_every_combination_counts() -> None:
    made = goals(catalog([MANY_OPTIONS, SHOE, BLUE_MUG]))
    weights = made.weights()
    assert weights.tolist() == [1 / 36] * 36 + [1.0] + [1.0]
    assert made.rows().tolist() == [0] * 36 + [1] + [2]


def test_the_weighted_draw_is_off_by_one_as_in_the_original() -> None:
    draws = Counter(weighted_index(np.ones(4), random.Random(seed)) for seed in range(2000))
    assert set(draws) == {1, 2, 3}
    assert draws[3] == pytest.approx(2 * draws[1], rel=0.2)
    with pytest.raises(DataError, match="at least 2"):
        weighted_index(np.ones(1), random.Random(0))


def test_a_shop_without_goals_has_none() -> None:
    shop = catalog([BLUE_MUG])
    assert len(Goals(shop.store, shop.table, GoalRules((TEMPLATE,)))) == 0


def test_damaged_wishes_are_refused_with_the_asin() -> None:
    with pytest.raises(DataError, match="'B0'"):
        read_template({"instruction": "x", "instruction_attributes": []}, "B0")
    with pytest.raises(DataError, match="'B0'"):
        read_humans([{"instruction": "x", "instruction_attributes": "clean"}], "B0")
    with pytest.raises(DataError, match="human instruction of 'B0' is damaged"):
        read_humans(["x"], "B0")
    assert read_template({"attributes": []}, "B0") is None
