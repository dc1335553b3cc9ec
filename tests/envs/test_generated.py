"""What the environments with generated tasks share: selection, limits, snapshots, splits."""

import json

import pytest

from agentgym_rft import registry
from agentgym_rft.envs.arithmetic.env import ArithmeticEnv
from agentgym_rft.envs.frozen_lake.env import FrozenLakeEnv
from agentgym_rft.envs.generated import distinct_seeds, in_test
from agentgym_rft.envs.panels import load_panel
from agentgym_rft.envs.search_qa.env import SearchQAEnv
from agentgym_rft.envs.sokoban.env import SokobanEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError

ENVS = (ArithmeticEnv, FrozenLakeEnv, SearchQAEnv, SokobanEnv)
every_env = pytest.mark.parametrize("make", ENVS)


@every_env
def test_wrong_arguments_are_refused_with_a_sentence(make):
    with pytest.raises(DataError, match="There is no split 'valid'; expected one of train, test"):
        make(split="valid")
    with pytest.raises(DataError, match="no split"):
        make().task_ids("valid_seen")
    with pytest.raises(ConfigError, match="render mode"):
        make(render_mode="human")
    with pytest.raises(EnvError, match="option 'level'"):
        make().reset(options={"level": 3})
    with pytest.raises(EnvError, match="A task_id is text"):
        make().reset(options={"task_id": 3})


@every_env
def test_task_ids_of_nothing_are_refused(make):
    env = make()
    known = env.task_ids("test")[0]
    for task_id in ("", "x", known + "0000000", known.replace("v1/", "v2/"), "v1/../../etc", "٣", known + "\n"):
        with pytest.raises(DataError, match="There is no task"):
            env.task_content(task_id)


@every_env
def test_a_snapshot_that_does_not_fit_is_refused_and_ends_the_episode(make):
    env = make()
    with pytest.raises(EnvError, match="reset"):
        env.snapshot()
    env.reset(seed=0)
    saved = json.loads(env.snapshot())
    for damage in (
        {"state": {}},
        {"task_id": "nothing"},
        {"rng": {"bit_generator": "MT19937"}},
        {"env": "chess-1"},
        {"options": {"size": 99}},
    ):
        with pytest.raises(EnvError, match=r"damaged|is not one of|is of options"):
            make().restore(json.dumps({**saved, **damage}).encode())
    for junk in (b"", b"\xff", b"[]", b"{}"):
        with pytest.raises(EnvError, match="snapshot"):
            make().restore(junk)


def test_a_snapshot_with_an_impossible_state_is_refused():
    for env, state in (
        (FrozenLakeEnv(), {"cell": 16}),
        (FrozenLakeEnv(), {"cell": "3"}),
        (SokobanEnv(), {"player": "1", "boxes": "2"}),
        (SokobanEnv(), {"player": "zz", "boxes": "2"}),
        (SearchQAEnv(), {"shown": [400], "answer": None}),
        (SearchQAEnv(), {"shown": [], "answer": 3}),
        (ArithmeticEnv(), {"won": "yes"}),
    ):
        env.reset(seed=0)
        saved = json.loads(env.snapshot())
        with pytest.raises(EnvError, match="damaged"):
            env.restore(json.dumps({**saved, "state": state}).encode())
        with pytest.raises(EnvError, match="no running episode"):
            env.step("up")


def test_a_win_with_the_last_step_is_no_truncation_and_a_miss_is():
    env = FrozenLakeEnv(max_steps=6)
    task_id = next(
        id for id in env.task_ids("train") if env.reset(options={"task_id": id})[1]["task_type"] == "6 steps"
    )
    observation, _ = env.reset(options={"task_id": task_id})
    player = env.oracle()
    ends = []
    for _ in range(6):
        observation, *end, _ = env.step(player.act(observation))
        ends.append(tuple(end))
    assert ends == [(0.0, False, False)] * 5 + [(1.0, True, False)]
    env.reset(options={"task_id": task_id})
    ends = [env.step("wait")[1:4] for _ in range(6)]
    assert ends == [(0.0, False, False)] * 5 + [(0.0, False, True)]


def test_render_gives_the_last_observation_in_mode_ansi():
    env = SokobanEnv(render_mode="ansi")
    observation, _ = env.reset(seed=0)
    assert env.render() == observation
    assert SokobanEnv().render() is None


@pytest.mark.parametrize("make", [ArithmeticEnv, FrozenLakeEnv, SearchQAEnv])
def test_no_two_tasks_are_the_same_in_whatever_split(make):
    env = make()
    contents = [env.task_content(task_id) for split in env.splits for task_id in env.task_ids(split)]
    assert len(set(contents)) == len(contents) >= 600


# What is generated must stay the same for a version: raise VERSION of the generator if one of these changes.
PANEL_HASHES = {
    "arithmetic": ("85ec0609a8f2991e", "bf743ed5e37c552c"),
    "frozenlake": ("9ee013859a82f897", "b80f9c19b677f774"),
    "searchqa": ("ba0d89354d6f4970", "9eb5cd9c48e789c5"),
    "sokoban": ("e238a333f7f4bc84", "cdcbe7a9c585b3ea"),
}


@pytest.mark.parametrize("name", sorted(PANEL_HASHES))
def test_generated_tasks_are_the_published_ones(name):
    env = registry.make(name)
    hashes = tuple(load_panel(env, split, 50).panel_hash[:16] for split in env.splits)
    assert hashes == PANEL_HASHES[name]


def test_a_share_of_contents_belongs_to_test():
    picked = sum(in_test(str(number).encode(), 10) for number in range(10_000))
    assert 900 < picked < 1100


def test_distinct_seeds_skips_equal_contents_and_says_where_there_are_too_few():
    def content(seed):
        return str(seed // 2).encode()  # two seeds for each content

    seeds = distinct_seeds(content, {"train": 20, "test": 4})
    assert [len(seeds["train"]), len(seeds["test"])] == [20, 4]
    assert all(seed % 2 == 0 for split in seeds.values() for seed in split)
    assert {content(seed) for seed in seeds["train"]}.isdisjoint({content(seed) for seed in seeds["test"]})
    with pytest.raises(ConfigError, match="only 5 different tasks"):
        distinct_seeds(lambda seed: str(seed % 5).encode(), {"train": 20, "test": 4})
