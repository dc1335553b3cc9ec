"""Recorded episodes of the original WebShop, step by step."""

import json
from collections import Counter
from pathlib import Path

import pytest

from agentgym_rft.envs.webshop.catalog import Catalog, CatalogOptions, open_catalog
from agentgym_rft.envs.webshop.goal_list import GoalRules, Goals
from agentgym_rft.envs.webshop.goals import TEMPLATE, Pricing
from agentgym_rft.envs.webshop.session import Session, Shop
from agentgym_rft.envs.webshop.splits import shuffled
from tests.envs.webshop.shops import FOLDER, episodes, needs_real_products

pytestmark = needs_real_products
_TAGGER_PARTS = {"title_score", "r_type"}  # what the nouns decide; the recordings were tagged by another tagger


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return open_catalog(CatalogOptions(str(FOLDER), cache_dir=str(tmp_path_factory.mktemp("cache"))))


@pytest.fixture(scope="module")
def recorded(real: Catalog) -> Goals:
    """The goals with the prices and caps that were drawn when the episodes were recorded."""
    prices = json.loads((Path(FOLDER) / "prices.json").read_text())["prices"]
    caps = {episode["goal"]["asin"]: episode["goal"]["price_upper"] for episode in episodes()}
    return Goals(real.store, real.table, GoalRules((TEMPLATE,), pricing=Pricing(prices=prices, caps=caps)))


def test_there_are_as_many_goals_as_in_the_original(recorded: Goals, real: Catalog) -> None:
    assert len(recorded) == 6910
    assert int(real.table.num_humans.sum()) == 13


def test_goals_and_their_weights_are_the_recorded_ones(recorded: Goals) -> None:
    order, weights = shuffled(len(recorded), 233), recorded.weights()
    for episode in episodes():
        index, expected = int(order[episode["goal_index"]]), episode["goal"]
        goal = recorded[index]
        assert goal.instruction == expected["instruction_text"]
        assert dict(goal.options) == expected["goal_options"]  # type: ignore[arg-type]
        assert (goal.asin, goal.query, goal.title) == (expected["asin"], expected["query"], expected["name"])
        assert list(goal.attributes) == expected["attributes"]
        assert goal.price_upper == expected["price_upper"]
        assert weights[index] == expected["weight"]


def test_every_step_is_the_recorded_one_and_only_the_tagger_can_change_a_reward(recorded: Goals, real: Catalog) -> None:
    order = shuffled(len(recorded), 233)
    shop = Shop(real, recorded.rules.pricing)
    num_steps, rewards = 0, Counter[str]()
    for episode in episodes():
        session = Session(shop, recorded[int(order[episode["goal_index"]])], str(episode["goal_index"]))
        assert session.observation(episode["mode"]) == episode["reset"]["observation"]
        assert session.available_actions() == episode["reset"]["available"]
        for step in episode["steps"]:
            num_steps += 1
            outcome = session.step(step["action"])
            assert session.available_actions() == step["available"]
            assert (outcome.done, session.url) == (step["done"], step["url"])
            observation = session.observation(episode["mode"])
            if "verbose_info" in step:
                rewards[_compare(session, outcome.reward, step)] += 1
                observation = observation.replace(str(outcome.reward), str(step["reward"]))
            assert observation == step["observation"], step["action"]
    assert num_steps == 2583
    assert rewards["equal"] + rewards["tagger"] == 156
    assert rewards["tagger"] <= 10


def _compare(session: Session, reward: float, step: dict[str, object]) -> str:
    """`equal`, or `tagger` where the nouns explain another reward; fails where nothing does."""
    assert session.verdict is not None
    own, expected = session.verdict.verbose(session.goal), dict(step["verbose_info"])  # type: ignore[call-overload]
    assert {part for part in expected if own[part] != expected[part]} <= _TAGGER_PARTS
    if own["r_type"] == expected["r_type"]:
        assert reward == step["reward"]
        return "equal"
    assert own["title_score"] != expected["title_score"]
    return "tagger"
