import copy
import gc
import json
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from agentgym_rft.envs import check_env
from agentgym_rft.envs.panels import assert_disjoint, load_panel
from agentgym_rft.envs.webshop.env import SEARCH_HINT, WebShopEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError
from agentgym_rft.registry import make
from tests.envs.webshop.shops import BLUE_MUG, FOLDER, RED_MUG, SHOE, choices, needs_real_products, write_files

WIN = ["search[harbor mug]", "click[b000000001]", "click[red]", "click[s]", "click[buy now]"]


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """Options of a shop of three products in the original files."""
    (tmp_path / "data").mkdir()
    return {"data": str(write_files(tmp_path / "data")), "cache_dir": str(tmp_path / "cache")}


def _task(env: WebShopEnv, goal_id: str = "template/B000000001/0") -> str:
    return f"{env.catalog.name}/strict/{goal_id}"


def _play(env: WebShopEnv, *actions: str) -> tuple[str, float, bool, bool, dict[str, object]]:
    for action in actions:
        result = env.step(action)
    return result


def test_the_embedded_shop_keeps_the_contract() -> None:
    assert len(check_env("webshop")) > 10


def test_other_presets_and_modes_keep_the_contract() -> None:
    def make_env() -> WebShopEnv:
        return WebShopEnv(preset="agentgym", observation_mode="text_rich", special_queries=True, num_prev_obs=2)

    assert len(check_env(make_env, split="test")) > 10


def test_a_win_and_a_loss(small: dict[str, str]) -> None:
    env = WebShopEnv(**small)
    env.reset(options={"task_id": _task(env)})
    *_, info = _play(env, *WIN[:-1])
    assert (info["won"], info["score"], info["invalid_action"]) == (False, 0.0, False)
    _, reward, terminated, truncated, info = env.step(WIN[-1])
    assert (reward, terminated, truncated, info["won"], info["score"]) == (1.0, True, False, True, 1.0)
    with pytest.raises(EnvError, match="no running episode"):
        env.step("search[mug]")
    env.reset(options={"task_id": _task(env)})
    _, reward, terminated, _, info = _play(env, *WIN[:2], "click[buy now]")
    assert (terminated, info["won"], info["score"]) == (True, False, reward)
    assert 0 < reward < 1


def test_info_says_what_can_be_done_and_what_is_wanted(small: dict[str, str]) -> None:
    env = WebShopEnv(**small)
    observation, info = env.reset(options={"task_id": _task(env)})
    assert info["admissible_actions"] == [SEARCH_HINT]
    assert info["task_type"] == "garden"
    assert isinstance(info["goal"], str)
    assert info["goal"] in observation
    *_, info = env.step("search[harbor mug]")
    assert info["admissible_actions"] == ["click[back to search]", "click[b000000002]", "click[b000000001]"]
    *_, info = env.step("search[shoes]")
    assert info["invalid_action"] is True
    assert "admissible_actions" not in WebShopEnv(**small, admissible=False).reset()[1]


def test_the_original_searches_anywhere_and_goes_to_the_next_page_for_ever(small: dict[str, str]) -> None:
    env = WebShopEnv(**small, preset="princeton", human_goals=False)
    env.reset(seed=0)
    *_, info = env.step("search[harbor mug]")
    assert "click[next >]" in info["admissible_actions"]
    *_, info = env.step("search[shoe]")
    assert "click[b000000003]" in info["admissible_actions"]


def test_strict_options_refuse_what_only_looks_like_the_option(tmp_path: Path) -> None:
    item = {**RED_MUG, "customization_options": choices(Size=["Large", "X-Large"])}
    write_files(tmp_path, [item, SHOE])
    scores = {}
    for strict_options in (False, True):
        env = WebShopEnv(data=str(tmp_path), cache_dir=str(tmp_path / "cache"), strict_options=strict_options)
        for chosen in ("x-large", "large"):
            env.reset(options={"task_id": _task(env, "template/B000000001/1")})  # asks for x-large
            *_, info = _play(env, "search[harbor mug]", "click[b000000001]", f"click[{chosen}]", "click[buy now]")
            scores[strict_options, chosen] = info["score"]
    assert scores == {(False, "x-large"): 1.0, (False, "large"): 1.0, (True, "x-large"): 1.0, (True, "large"): 2 / 3}


def test_splits_share_no_content_and_no_product_and_are_large_enough() -> None:
    env = WebShopEnv()
    for other in ("dev", "test"):
        assert_disjoint(env, "train", other)
    assert_disjoint(env, "dev", "test")
    queries, products = [], []
    for split in env.splits:
        goals = [env.goal(task_id) for task_id in env.task_ids(split)]
        queries.append({goal.query for goal in goals})
        products.append({goal.asin for goal in goals})
        assert max(sum(goal.asin == asin for goal in goals) for asin in products[-1]) <= 10
    for parts in (queries, products):
        assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(env.task_ids("test")) >= 200
    assert len(env.task_ids("dev")) >= 100


def test_training_in_a_larger_shop_asks_for_nothing_that_the_tests_of_a_smaller_one_do() -> None:
    """So that demonstrations in many products, such as the seed policy's, leave the tests held out."""
    small, large = WebShopEnv(), WebShopEnv(num_products=2000)
    asked = {large.goal(task_id).query for task_id in large.task_ids("train")}
    assert asked
    for split in ("dev", "test"):
        assert not asked & {small.goal(task_id).query for task_id in small.task_ids(split)}


def test_tasks_are_the_same_in_every_process() -> None:
    program = (
        "from agentgym_rft.envs.webshop.env import WebShopEnv\n"
        "from agentgym_rft.envs.panels import load_panel\n"
        "print(load_panel(WebShopEnv(num_products=200), 'test', 20).panel_hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {load_panel(WebShopEnv(num_products=200), "test", 20).panel_hash}


def test_verl_agents_splits_leak(small: dict[str, str]) -> None:
    env = WebShopEnv(preset="verl_agent_small", num_products=1000)
    train, test = (set(env.task_ids(split)) for split in ("train", "test"))
    assert len(test) == 500
    assert train & test


def test_previous_observations_and_actions_are_joined_oldest_first(small: dict[str, str]) -> None:
    plain = WebShopEnv(**small)
    task_id = _task(plain)
    observations = [plain.reset(options={"task_id": task_id})[0], *(plain.step(action)[0] for action in WIN[:3])]
    env = WebShopEnv(**small, num_prev_obs=2, num_prev_actions=1)
    assert env.reset(options={"task_id": task_id})[0] == observations[0]
    shown = [env.step(action)[0] for action in WIN[:3]]
    first, second, third, fourth = observations
    assert shown == [
        " [SEP] ".join([first, WIN[0], second]),
        " [SEP] ".join([first, second, WIN[1], third]),
        " [SEP] ".join([second, third, WIN[2], fourth]),
    ]


def test_two_equal_actions_end_an_episode_of_r3l(small: dict[str, str]) -> None:
    env = WebShopEnv(**small, preset="r3l")
    env.reset(seed=0)
    assert env.step("search[mug]")[2] is False
    assert env.step("click[next >]")[2] is False
    assert env.step("click[next >]")[2] is True


def test_the_environment_variable_names_the_data(small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSHOP_DATA", small["data"])
    env = WebShopEnv(cache_dir=small["cache_dir"])
    assert env.catalog.product("B000000001").title == "Harbor Coffee Mug"
    monkeypatch.setenv("WEBSHOP_DATA", "/nowhere")
    with pytest.raises(DataError, match="There is no folder"):
        WebShopEnv()


def test_instances_share_one_catalogue_and_copies_too() -> None:
    env = WebShopEnv()
    twins = [WebShopEnv(split="test"), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    assert all(twin.catalog is env.catalog for twin in twins)
    assert WebShopEnv(seed=1).catalog is not env.catalog
    assert len(pickle.dumps(env)) < 1_000_000


def test_gymnasium_makes_it() -> None:
    env = gym.make("agentgym/WebShop-v0", max_steps=3)
    observation, _ = env.reset(seed=0)
    assert observation.startswith("WebShop [SEP] Instruction: [SEP] ")
    assert [env.step("nothing")[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"preset": "strickt"}, ConfigError, "Did you mean 'strict'"),
        ({"observation_mode": "pixels"}, ConfigError, "no observation_mode 'pixels'"),
        ({"search": "bm52"}, ConfigError, "Did you mean 'bm25'"),
        ({"split": "validation"}, DataError, "no split 'validation'"),
        ({"num_products": 0}, ConfigError, "num_products is 0"),
        ({"num_prev_obs": -1}, ConfigError, "0 or more"),
        ({"max_steps": 0}, ConfigError, "max_steps is 0"),
        ({"data": "/nowhere"}, DataError, "There is no folder"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make("webshop", **options)


def test_a_split_without_goals_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps([RED_MUG, BLUE_MUG, SHOE]))
    (tmp_path / "items_ins_v2_1000.json").write_text("{}")
    with pytest.raises(DataError, match="has no goals"):
        WebShopEnv(data=str(tmp_path), cache_dir=str(tmp_path / "cache")).reset()


@pytest.mark.parametrize(
    "task_id", ["", "x", "synthetic-v1-s0-n1000/princeton/template/B0/0", "data-1/strict/template/B0/0"]
)
def test_tasks_of_other_shops_are_refused(task_id: str) -> None:
    with pytest.raises(DataError, match="There is no task"):
        WebShopEnv().reset(options={"task_id": task_id})


def test_a_snapshot_of_other_options_is_refused(small: dict[str, str]) -> None:
    env = WebShopEnv(**small)
    env.reset(options={"task_id": _task(env)})
    _play(env, *WIN[:3])
    snapshot = env.snapshot()
    assert len(snapshot) < 5000
    for other in (WebShopEnv(), WebShopEnv(**small, observation_mode="text_rich")):
        with pytest.raises(EnvError, match="The snapshot is"):
            other.restore(snapshot)
    saved = json.loads(snapshot)
    saved["state"]["session"]["asin"] = "B0NOWHERE"
    with pytest.raises(EnvError, match="damaged"):
        WebShopEnv(**small).restore(json.dumps(saved).encode())


def test_a_long_action_is_answered() -> None:
    env = WebShopEnv()
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(f"search[{'mug ' * 250_000}]")
    assert (reward, terminated, info["invalid_action"]) == (0.0, False, False)


def test_ten_thousand_sessions_leave_nothing_behind() -> None:
    env = WebShopEnv(admissible=False)
    tasks = list(env.task_ids("train")[:40])

    def play(number: int) -> None:
        for index in range(number):
            env.reset(options={"task_id": tasks[index % len(tasks)]})
            env.step(f"search[{env.session.goal.query}]")
            labels = env.session.available_actions()["clickables"]
            env.step(f"click[{labels[-1]}]")
            env.step("click[buy now]")

    play(len(tasks) * 2)
    gc.collect()
    before = len(gc.get_objects())
    play(10_000)
    gc.collect()
    assert len(gc.get_objects()) - before < 500


def test_episodes_use_no_global_generator() -> None:
    import random

    states = random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    env = WebShopEnv()
    env.reset(seed=1)
    _play(env, "search[mug]", "click[back to search]")
    assert (random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]) == states  # noqa: NPY002


@needs_real_products
def test_the_real_products_can_be_played(tmp_path: Path) -> None:
    env = WebShopEnv(data=str(FOLDER), cache_dir=str(tmp_path))
    for other in ("dev", "test"):
        assert_disjoint(env, "train", other)
    assert len(env.task_ids("test")) >= 100
    task_id = env.task_ids("test")[0]
    env.reset(options={"task_id": task_id})
    goal = env.goal(task_id)
    *_, info = env.step(f"search[{env.catalog.product(goal.asin).title}]")
    assert f"click[{goal.asin.lower()}]" in info["admissible_actions"]
    compat = WebShopEnv(data=str(FOLDER), cache_dir=str(tmp_path), preset="princeton", human_goals=False)
    assert [len(compat.task_ids(split)) for split in compat.splits] == [5410, 1000, 500]
