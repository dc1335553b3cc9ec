"""The distance to a perfect purchase, against the oracle and against a search through every state of small shops."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import pytest

from agentgym_rft.envs.webshop.catalog import build_catalog
from agentgym_rft.envs.webshop.env import WebShopEnv
from agentgym_rft.envs.webshop.oracle import OraclePlayer
from agentgym_rft.envs.webshop.planning import Planner, search_texts
from agentgym_rft.envs.webshop.session import Session, Shop
from agentgym_rft.errors import EnvError
from tests.envs.webshop.shops import (
    BLUE_MUG,
    RED_MUG,
    SHOE,
    catalog,
    choices,
    goals,
    many_mugs,
    session,
    store,
    write_files,
)

TRIMMED = {**RED_MUG, "customization_options": choices(Color=["Red", "Blue"], Trim=["Red", "Green", "Buy Now"])}


def left(customer: Session) -> int | None:
    """The length of the way that wins, None if there is none."""
    way = Planner(customer.shop, customer.goal).best(customer)
    return len(way.actions) if way is not None and way.wins else None


def after(customer: Session, *actions: str) -> int | None:
    """What is left after more actions."""
    for action in actions:
        assert customer.step(action).is_valid, action
    return left(customer)


@pytest.mark.parametrize("preset", ["strict", "agentgym"])
def test_remaining_is_what_the_oracle_takes_and_falls_by_one_with_each_action(preset: str) -> None:
    env = WebShopEnv(preset=preset)
    for split in env.splits:
        for task_id in env.task_ids(split)[:60]:
            observation, _ = env.reset(options={"task_id": task_id})
            player, counts, is_over = env.oracle(), [env.remaining()], False
            while not is_over:
                observation, _, is_over, _, info = env.step(player.act(observation))
                counts.append(env.remaining())
            assert info["won"]
            assert counts == list(range(len(counts) - 1, -1, -1)), task_id


def test_it_grows_by_what_a_mistake_costs() -> None:
    customer = session(search_anywhere=False)
    assert left(customer) == 5
    assert after(customer, "search[harbor mug]") == 4
    assert after(customer, "click[b000000002]") == 5  # has to go back
    assert after(customer, "click[features]") == 6
    assert after(customer, "click[< prev]", "click[< prev]", "click[b000000001]") == 3
    assert after(customer, "click[blue]") == 3  # a colour had to be chosen anyway
    assert after(customer, "click[red]") == 2
    assert after(customer, "click[blue]") == 3
    assert after(customer, "click[red]", "click[s]") == 1
    assert after(customer, "click[reviews]") == 2
    assert after(customer, "click[< prev]", "click[< prev]") == 4  # the options are lost
    assert after(customer, "click[back to search]") == 5


def test_a_search_that_does_not_find_the_product_costs_the_way_back() -> None:
    assert after(session(search_anywhere=False), "search[shoe]") == 6
    assert after(session(search_anywhere=True), "search[shoe]") == 5


def test_an_option_that_the_reward_takes_needs_no_change() -> None:
    item = {**RED_MUG, "customization_options": choices(Size=["Large", "X-Large"])}
    for is_strict, expected in ((False, 1), (True, 2)):
        shop = Shop(catalog([item]), strict_options=is_strict)
        customer = Session(shop, goals(shop.catalog)[1], "0")  # asks for x-large
        assert after(customer, "search[mug]", "click[b000000001]", "click[large]") == expected


def explore(root: Session, searches: list[str]) -> dict[str, tuple[dict[str, Any], int | None]]:
    """Every state that the searches and all clicks reach, with its true distance to a perfect purchase."""

    def key(state: dict[str, Any]) -> str:
        return json.dumps({**state, "visited": []}, sort_keys=True)

    states, before, distance = {key(root.snapshot()): root.snapshot()}, defaultdict(list), {}
    waiting, customer = deque(states), Session(root.shop, root.goal, root.id)
    while waiting:
        here = waiting.popleft()
        customer.restore(states[here])
        labels = [label for label in customer.available_actions()["clickables"] if label not in ("reviews", "features")]
        for action in [f"search[{words}]" for words in searches] + [f"click[{label}]" for label in labels]:
            customer.restore(states[here])
            outcome = customer.step(action)
            there = key(customer.snapshot())
            if not outcome.is_valid or outcome.done or abs(customer.snapshot()["number"]) > 3:
                if outcome.reward == 1.0:
                    distance[here] = 1
                continue
            before[there].append(here)
            if there not in states:
                states[there] = customer.snapshot()
                waiting.append(there)
    waiting = deque(distance)
    while waiting:
        there = waiting.popleft()
        for here in before[there]:
            if here not in distance:
                distance[here] = distance[there] + 1
                waiting.append(here)
    return {name: (state, distance.get(name)) for name, state in states.items()}


@pytest.mark.parametrize("variant", range(6))
@pytest.mark.parametrize("is_strict", [False, True])
def test_no_way_is_shorter_from_any_state_of_a_small_shop(variant: int, is_strict: bool) -> None:
    """Also where values are in two groups or named like buttons, and where words of a search confuse the way back."""
    shop = Shop(
        catalog([TRIMMED, *many_mugs(3)[2:], SHOE]),
        search_anywhere=not is_strict,
        endless_next=not is_strict,
        strict_options=is_strict,
    )
    root = Session(shop, goals(shop.catalog)[variant], "0")
    assert root.goal.asin == "B000000001"
    words = [" ".join(words) for words in search_texts(root.goal)]
    states = explore(root, [*words, "shoe", "mug item_page", "mug search_results"])
    assert len(states) > 100
    customer = Session(shop, root.goal, "0")
    for state, expected in states.values():
        customer.restore(state)
        assert left(customer) == expected, state


def test_no_way_is_shorter_where_results_have_many_pages() -> None:
    shop = Shop(catalog([RED_MUG, *many_mugs(24)[2:]]), search_anywhere=False, endless_next=False)
    root = Session(shop, goals(shop.catalog)[0], "0")
    states = explore(root, [*(" ".join(words) for words in search_texts(root.goal)), "number", "mug number"])
    assert {state["number"] for state, _ in states.values()} == {1, 2, 3}
    customer = Session(shop, root.goal, "0")
    for state, expected in states.values():
        customer.restore(state)
        assert left(customer) == expected, state


def twins(number: int, wanted: int, **changes: Any) -> Session:
    """A shop of mugs that are all alike but for their number, one of which is the goal's."""
    items = [{**item, **changes} for item in many_mugs(number)]
    wish = {"instruction": "Find me bpa free mugs", "instruction_attributes": ["bpa free"]}
    shop_catalog = build_catalog("test", store(items, {items[wanted]["asin"]: wish}, {}))
    return Session(Shop(shop_catalog, search_anywhere=False), goals(shop_catalog)[0], "0")


def test_another_product_that_wins_counts_while_it_is_open() -> None:
    customer = twins(25, 20)
    assert left(customer) == 3
    assert after(customer, "search[mug]") == 4  # two pages on; the first result would give 1 as well
    assert after(customer, "click[b000000003]") == 1
    assert customer.step("click[buy now]").reward == 1.0


def test_there_is_no_number_where_no_search_finds_the_product() -> None:
    customer = twins(60, 59, name="Mug")
    assert left(customer) is None
    with pytest.raises(EnvError, match="No search finds product 'B000000059'"):
        OraclePlayer(customer).act("")


def test_there_is_no_number_where_no_option_is_worth_1_but_the_oracle_buys_the_best() -> None:
    item = {**RED_MUG, "customization_options": choices(Color=["2005brown", "Plain"], Size=["S"])}
    shop = Shop(catalog([item]))
    customer = Session(shop, goals(shop.catalog)[0], "0")
    assert left(customer) is None
    player, actions = OraclePlayer(customer), []
    while customer.snapshot()["page"] != "done":
        actions.append(player.act(""))
        customer.step(actions[-1])
    assert actions == ["search[mugs]", "click[b000000001]", "click[s]", "click[buy now]"]


@pytest.fixture
def small(tmp_path: Path) -> WebShopEnv:
    """An environment of three products."""
    (tmp_path / "data").mkdir()
    data = write_files(tmp_path / "data", [RED_MUG, BLUE_MUG, SHOE])
    env = WebShopEnv(data=str(data), cache_dir=str(tmp_path / "cache"))
    env.reset(options={"task_id": f"{env.catalog.name}/strict/template/B000000001/0"})
    return env


def test_after_a_purchase_it_is_0_or_the_way_of_a_fresh_episode(small: WebShopEnv) -> None:
    fresh, start = small.remaining(), small.snapshot()
    for actions, expected in (
        (["click[red]", "click[s]", "click[buy now]"], 0),
        (["click[buy now]"], fresh),
    ):
        small.restore(start)
        for action in ["search[harbor mug]", "click[b000000001]", *actions]:
            small.step(action)
        assert small.remaining() == expected
        small.restore(small.snapshot())
        assert small.remaining() == expected


def test_asking_leaves_the_episode_as_it_is(small: WebShopEnv) -> None:
    for action in ["search[harbor mug]", "click[b000000002]", "click[features]", "click[< prev]", "nothing"]:
        small.step(action)
        before = small.snapshot()
        assert small.remaining() == small.remaining()
        assert small.snapshot() == before


def test_limits_do_not_count_and_there_must_be_an_episode() -> None:
    env = WebShopEnv(max_steps=1)
    with pytest.raises(EnvError, match="call reset first"):
        env.remaining()
    env.reset(seed=0)
    fresh = env.remaining()
    assert env.step("nothing")[3]
    assert env.remaining() == fresh
