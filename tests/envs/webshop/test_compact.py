"""The mode `compact`: short pages with numbered results."""

from __future__ import annotations

import numpy as np
import pytest

from agentgym_rft.envs import check_env
from agentgym_rft.envs.webshop.compact import as_compact, with_asin, with_number
from agentgym_rft.envs.webshop.env import SEARCH_HINT, WebShopEnv
from agentgym_rft.envs.webshop.session import Session, Shop
from agentgym_rft.envs.webshop.transcript import read_page
from tests.envs.webshop.shops import RED_MUG, catalog, choices, goals, many_mugs, raw, session

LINKS = ["B000000002", "B0ABCDEFGH"]


def page_after(customer: Session, *actions: str) -> str:
    for action in actions:
        assert customer.step(action).is_valid, action
    return as_compact(customer.nodes())


def test_every_page_of_a_purchase() -> None:
    customer = session()
    assert page_after(customer) == "Search."
    assert page_after(customer, "search[harbor mug]") == (
        "Page 1 (Total results: 2)\n1 Harbor Coffee Mug Blue $10.0 to $20.0\n2 Harbor Coffee Mug $19.99"
    )
    item = "Harbor Coffee Mug\nPrice: $19.99\nsize: s; x | l\ncolor: red; blue"
    assert page_after(customer, "click[b000000001]") == item
    assert page_after(customer, "click[red]", "click[s]") == item
    assert page_after(customer, "click[features]") == "Easy to clean\nBPA free"
    assert page_after(customer, "click[< prev]", "click[description]") == ""
    assert page_after(customer, "click[< prev]", "click[buy now]") == "Bought. Your score: 1.0"


def test_a_page_of_no_results() -> None:
    assert page_after(session(), "search[the of and]") == "Page 1 (Total results: 0)"


def test_a_text_equal_to_the_name_of_a_group_stays() -> None:
    shop = Shop(catalog([raw("B000000001", "Color", customization_options=choices(Color=["Red"]))]))
    customer = Session(shop, goals(shop.catalog)[0], "0")
    assert page_after(customer, "search[color]", "click[b000000001]") == "Color\nPrice: $19.99\ncolor: red"


def test_pages_can_be_read_again() -> None:
    shop = Shop(catalog([RED_MUG, *many_mugs(12)[2:]]))
    customer = Session(shop, goals(shop.catalog)[0], "0")
    assert read_page(page_after(customer)).kind == "index"
    results = read_page(page_after(customer, "search[mug]", "click[next >]"))
    assert [results.kind, results.number, len(results.results)] == ["results", 2, 1]
    assert (results.results[0].asin, results.results[0].title) == ("1", "Harbor Coffee Mug")  # the longest title
    item = read_page(page_after(customer, "click[b000000001]"))
    assert (item.kind, item.title, item.price) == ("item", "Harbor Coffee Mug", 19.99)
    assert item.options == (("size", ("s", "x | l")), ("color", ("red", "blue")))
    assert read_page(page_after(customer, "click[features]")).text == "easy to clean\nbpa free"
    assert read_page(page_after(customer, "click[< prev]", "click[buy now]")).kind == "done"


def test_numbers_stand_for_asins_and_back() -> None:
    assert with_asin("click[2]", LINKS) == "click[b0abcdefgh]"
    assert with_number("click[B0ABCDEFGH]", LINKS) == "click[2]"
    for number in (1, 2):
        assert with_number(with_asin(f"click[{number}]", LINKS), LINKS) == f"click[{number}]"


@pytest.mark.parametrize(
    "action", ["click[0]", "click[3]", "click[99]", "click[-1]", "click[1", "click[²]", "search[2]", "2", ""]
)
def test_other_actions_stay_as_they_are(action: str) -> None:
    assert with_asin(action, LINKS) == action


def test_a_number_that_is_an_option_is_no_result_on_the_page_of_a_product() -> None:
    shop = Shop(catalog([{**RED_MUG, "customization_options": choices(Size=["1", "2"])}]))
    customer = Session(shop, goals(shop.catalog)[0], "0")
    page_after(customer, "search[mug]", "click[b000000001]")
    assert customer.step(with_asin("click[2]", customer.links())).is_valid
    assert customer.snapshot()["options"] == {"size": "2"}


def test_the_contract_holds() -> None:
    assert len(check_env(lambda: WebShopEnv(observation_mode="compact", num_products=200))) > 10


def test_admissible_actions_name_results_by_number() -> None:
    env = WebShopEnv(observation_mode="compact")
    observation, info = env.reset(seed=0)
    assert (observation, info["admissible_actions"]) == ("Search.", [SEARCH_HINT])
    observation, *_, info = env.step(f"search[{env.session.goal.query}]")
    assert observation.startswith("Page 1 (Total results: ")
    assert {f"click[{number}]" for number in range(1, 11)} <= set(info["admissible_actions"])
    for action in info["admissible_actions"]:
        snapshot = env.snapshot()
        assert not env.step(action)[4]["invalid_action"]
        env.restore(snapshot)


def test_expert_and_oracle_play_as_in_text() -> None:
    modes = {mode: WebShopEnv(observation_mode=mode) for mode in ("text", "compact")}
    task_ids = modes["text"].task_ids("dev")[:40]
    scores: dict[tuple[str, str], list[float]] = {}
    for mode, env in modes.items():
        for name in ("expert", "oracle"):
            for task_id in task_ids:
                observation, _ = env.reset(options={"task_id": task_id})
                player = env.oracle() if name == "oracle" else env.expert(observation, np.random.default_rng(0), 0.2)
                is_over = False
                while not is_over:
                    observation, _, terminated, truncated, info = env.step(player.act(observation))
                    assert not info["invalid_action"]
                    is_over = terminated or truncated
                scores.setdefault((mode, name), []).append(info["score"])
    assert set(scores["compact", "oracle"]) == {1.0}
    assert scores["compact", "expert"] == scores["text", "expert"]


def test_odd_actions_never_raise_on_any_page() -> None:
    env = WebShopEnv(observation_mode="compact", max_steps=100)
    odd = ["click[1]" * 3, "click[١]", "click[00]", "click[7]\n", "click[\ud800]", "][", "click[1][2]", "x" * 5000]
    env.reset(seed=0)
    for way in (["nothing"], [f"search[{env.session.goal.query}]"], ["click[1]"], ["click[features]"]):
        env.step(way[0])
        for action in odd:
            observation, reward, *_ = env.step(action)
            assert (isinstance(observation, str), reward) == (True, 0.0)
            if "1" in action:
                env.step("click[< prev]")
