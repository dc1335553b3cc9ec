"""TextWorld games in the real engine. The games are made once a session: about two seconds each."""

import json
import shutil

import pytest

from agentgym_rft import registry
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.envs.textworld.games import HASH_SEED
from agentgym_rft.errors import ConfigError, DataError, EnvError, ReplayDiverged

pytest.importorskip("textworld")

COIN, COOKING = "coin_collector-l3-s4-g1", "cooking-l3-s2-g1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("games")


@pytest.fixture(scope="module")
def shared(cache):
    """One environment with one process for the tests that leave nothing behind in it."""
    env = registry.make("textworld", games="coin_collector-l3,cooking-l3", cache_dir=str(cache))
    yield env
    env.close()


def play_oracle(env, observation):
    oracle, steps, terminated = env.oracle(), [], False
    while not terminated:
        action = oracle.act(observation)
        observation, reward, terminated, truncated, info = env.step(action)
        assert not truncated
        steps.append((action, reward, observation, info))
    return steps


def test_the_oracle_wins_in_as_many_actions_as_remain(shared):
    observation, info = shared.reset(options={"task_id": COIN})
    assert observation.startswith(info["goal"])
    assert "$$$" not in observation
    assert (info["task_type"], info["score"], info["won"]) == ("coin_collector", 0.0, False)
    assert shared.remaining() == 3
    steps = play_oracle(shared, observation)
    assert [action for action, *_ in steps][-1] == "take coin"
    assert len(steps) == 3
    assert steps[-1][3]["won"] is True
    assert shared.remaining() == 0
    assert steps[-1][2].endswith("*** The End ***\n\nYou scored 1 out of a possible 1, in 4 turns.")


def test_rewards_add_up_to_the_score(shared):
    observation, _ = shared.reset(options={"task_id": COOKING})
    steps = play_oracle(shared, observation)
    rewards = [reward for _, reward, *_ in steps]
    assert sum(rewards) == pytest.approx(1.0)
    assert sum(reward > 0 for reward in rewards) > 1
    assert steps[-1][3]["score"] == 1.0


@pytest.mark.parametrize("task", [COIN, COOKING])
def test_several_sentences_do_what_they_do_one_by_one(shared, task):
    observation, _ = shared.reset(options={"task_id": task})
    steps = play_oracle(shared, observation)
    actions = [action for action, *_ in steps]
    shared.reset(options={"task_id": task})
    for action in actions[:-3]:
        shared.step(action)
    first = shared.step(f"look. {actions[-3]}")
    assert steps[-3][2] in first[0]  # the text of the last sentence, after that of the others
    assert first[1] == pytest.approx(steps[-3][1])
    assert first[4]["state_key"] == steps[-3][3]["state_key"]
    assert first[4]["admissible_actions"] == steps[-3][3]["admissible_actions"]
    last = shared.step(". ".join(actions[-2:]))
    assert last[1] == pytest.approx(steps[-2][1] + steps[-1][1])
    assert (last[2], last[4]["won"], last[4]["score"]) == (True, True, 1.0)
    assert "<score>" not in first[0] + last[0]


def test_a_spoiled_meal_loses(shared):
    observation, _ = shared.reset(options={"task_id": COOKING})
    oracle = shared.oracle()
    action = oracle.act(observation)
    while not action.startswith("cook"):
        observation = shared.step(action)[0]
        action = oracle.act(observation)
    shared.step(action)
    _, _, terminated, _, info = shared.step(action)  # cooked twice is burned
    assert (terminated, info["won"]) == (True, False)
    assert info["score"] < 1.0
    assert shared.remaining() is None
    with pytest.raises(EnvError, match="call reset"):
        shared.step("look")


def test_admissible_actions_are_obeyed_and_others_are_invalid(shared):
    _, info = shared.reset(options={"task_id": COOKING})
    for action in info["admissible_actions"]:
        shared.reset(options={"task_id": COOKING})
        assert shared.step(action)[4]["invalid_action"] is False, action
    for action in ("", "xyzzy", "take moon", "go up", "\ud800\x00\n", "\\s", "a" * 10_000):
        assert shared.step(action)[4]["invalid_action"] is True, action


@pytest.mark.parametrize("action", ["quit", "restart", "SAVE", "undo", "look. quit. yes", "again", "tw-trace-actions"])
def test_commands_to_the_interpreter_are_refused(shared, action):
    _, before = shared.reset(options={"task_id": COIN})
    observation, _, terminated, _, info = shared.step(action)
    assert (observation, terminated, info["invalid_action"]) == ("That's not a verb I recognise.", False, True)
    assert info["state_key"] == before["state_key"]


def test_state_keys_are_equal_in_equal_states_only(shared):
    _, start = shared.reset(options={"task_id": COIN})
    action = next(action for action in start["admissible_actions"] if action.startswith("go "))
    back = {"north": "south", "south": "north", "east": "west", "west": "east"}[action.split()[1]]
    away = shared.step(action)[4]["state_key"]
    assert away != start["state_key"]
    assert shared.step("look")[4]["state_key"] == away
    assert shared.step(f"go {back}")[4]["state_key"] == start["state_key"]


def test_restoring_by_replay_and_by_engine_copy_give_the_same(shared, cache):
    observation, _ = shared.reset(options={"task_id": COOKING})
    oracle = shared.oracle()
    for _ in range(5):
        observation, *_ = shared.step(oracle.act(observation))
    snapshot = shared.snapshot()
    future = [shared.step(action) for action in ("look", "inventory", "xyzzy")]
    for _ in range(3):  # replayed at first, from the copy of that afterwards
        assert shared.restore(snapshot)[0] == observation
        assert [shared.step(action) for action in ("look", "inventory", "xyzzy")] == future
    shared.restore(snapshot)
    assert play_oracle(shared, observation)[-1][3]["won"] is True


def test_a_snapshot_that_leads_elsewhere_is_refused(shared):
    shared.reset(options={"task_id": COIN})
    shared.step("look")
    saved = json.loads(shared.snapshot())
    saved["state"]["key"] = "0" * 32
    with pytest.raises(ReplayDiverged, match="Replaying 1 commands"):
        shared.restore(json.dumps(saved).encode())


def test_games_are_the_same_bytes_in_every_process_and_after_other_games(shared, cache, tmp_path):
    for task_id in (COIN, COOKING):
        shared.reset(options={"task_id": task_id})
    other = registry.make("textworld", cache_dir=str(tmp_path))
    other.reset(options={"task_id": COOKING})
    other.close()
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("game.*")}
    assert len(made) == 2
    for path, content in made.items():
        assert (cache / path).read_bytes() == content


def test_a_damaged_game_is_made_again(shared, cache, tmp_path):
    first = shared.reset(options={"task_id": COIN})
    shutil.copytree(next(cache.glob(f"{COIN}-*")), tmp_path / next(cache.glob(f"{COIN}-*")).name)
    story = next(tmp_path.rglob("game.z8"))
    whole = story.read_bytes()
    story.write_bytes(whole[:1000])
    env = registry.make("textworld", cache_dir=str(tmp_path))
    assert env.reset(options={"task_id": COIN}) == first
    env.close()
    assert story.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [story.parent.name]  # no half-made games are left


def test_wrong_options_and_tasks_are_refused_without_a_process(tmp_path):
    for options, sentence in (
        ({"games": "coin-l1"}, "no family of games"),
        ({"games": []}, "games is empty"),
        ({"games": "simple-l1,simple-l1"}, "names one twice"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"num_test": 0}, "num_test is 0"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            registry.make("textworld", **options)
    with pytest.raises(DataError, match="train, test"):
        registry.make("textworld", split="dev")
    env = registry.make("textworld", num_train=6)
    assert len(env.task_ids("train")) == 6
    assert env.task_content(COIN) != env.task_content(COOKING)
    assert env.pid is None


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    env = registry.make("textworld", cache_dir=str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be kept in"):
        env.reset(options={"task_id": COIN})
    env.close()


def test_games_are_not_made_where_sets_have_another_order(tmp_path):
    options = {
        "games": ["coin_collector-l3"], "split": "train", "sizes": {"train": 1, "test": 1},
        "max_steps": 5, "admissible": True, "cache_dir": str(tmp_path),
    }  # fmt: skip
    env = ProcessEnv("agentgym_rft.envs.textworld.game_env:GameEnv", options, hash_seed=HASH_SEED + 1)
    with pytest.raises(ConfigError, match="PYTHONHASHSEED=0"):
        env.reset(options={"task_id": COIN})
    env.close()
