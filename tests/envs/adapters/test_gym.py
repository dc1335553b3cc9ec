"""Any gymnasium environment with text on both sides is a `TextEnv` whose tasks are seeds."""

import gymnasium as gym
import numpy as np
import pytest

import agentgym_rft
from agentgym_rft.envs import TextEnv, check_env, make_env
from agentgym_rft.envs.adapters.gym import MAX_STEPS, GymTextEnv, as_text_env
from agentgym_rft.envs.check.subject import QUICK
from agentgym_rft.envs.panels import assert_disjoint, load_panel
from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError, DataError, EnvError
from tests.envs.counter_env import CounterEnv
from tests.envs.plain_envs import Echo, Letters, Numbers

HERE = "tests.envs.plain_envs"
TASK = {"task_id": "seed-17"}


def adapted(*script, **start):
    """An adapted environment after its reset; `script` is what its steps give."""
    env = GymTextEnv(Echo(script, **start), {})
    env.reset(options=TASK)
    return env


def test_an_adapted_environment_keeps_the_contract():
    for name in ("Echo", "Letters"):
        check_env(f"{HERE}:{name}", settings=QUICK)
    check_env(Letters, settings=QUICK)
    check_env(Letters(), settings=QUICK)


def test_a_text_env_stays_as_it_is():
    env = CounterEnv()
    assert as_text_env(env, "x", {}) is env
    assert isinstance(make_env("tests.envs.counter_env:CounterEnv"), CounterEnv)


def test_tasks_are_seeds_and_splits_are_disjoint():
    env = make_env(f"{HERE}:Echo")
    assert isinstance(env, TextEnv)
    assert env.splits == ("train", "test")
    assert env.task_ids("train")[:2] == ["seed-0", "seed-1"]
    assert (len(env.task_ids("train")), len(env.task_ids("test"))) == (10_000, 1_000)
    assert_disjoint(env, "train", "test")
    with pytest.raises(DataError, match=r"Echo has no split 'valid'; expected one of train, test\."):
        env.task_ids("valid")


def test_a_task_sets_the_seed_whatever_the_seed_of_reset():
    env = make_env(f"{HERE}:Echo")
    secrets = []
    for seed, task_id in ((1, "seed-17"), (2, "seed-17"), (1, "seed-18")):
        assert env.reset(seed=seed, options={"task_id": task_id})[1]["task_id"] == task_id
        secrets.append(env.env.secret)
    assert secrets[0] == secrets[1] != secrets[2]
    expected = Echo()
    expected.reset(seed=17)
    assert secrets[0] == expected.secret


@pytest.mark.parametrize("task_id", ["17", "seed-", "seed-x", "seed-017", "seed-11000", "seed--1", "seed-٣", ""])
def test_other_task_ids_are_refused(task_id):
    with pytest.raises(DataError, match="expected seed-0 to seed-10999"):
        make_env(f"{HERE}:Echo").task_content(task_id)


def test_other_options_of_reset_are_passed_on():
    env = make_env(f"{HERE}:Echo")
    env.reset(options=TASK)
    assert env.env.options is None
    env.reset(options={**TASK, "level": 3})
    assert env.env.options == {"level": 3}


def test_the_panel_is_the_same_by_name_by_class_and_in_another_process():
    agentgym_rft.register_env("tests/PlainEcho-v0", Echo, kwargs={"observation": "Hi."})
    by_name = make_env("tests/PlainEcho-v0")
    elsewhere = ProcessEnv("tests/PlainEcho-v0", timeout_s=60)
    try:
        hashes = {load_panel(env, "test", 5, env_id="x").panel_hash for env in (by_name, elsewhere)}
    finally:
        elsewhere.close()
    hashes.add(load_panel(make_env(f"{HERE}:Echo", {"observation": "Hi."}), "test", 5, env_id="x").panel_hash)
    assert len(hashes) == 1
    assert load_panel(make_env(f"{HERE}:Echo"), "test", 5, env_id="x").panel_hash not in hashes


def test_gymnasium_makes_the_plain_environment():
    agentgym_rft.register_env("tests/PlainLetters-v0", f"{HERE}:Letters")
    assert isinstance(gym.make("tests/PlainLetters-v0").unwrapped, Letters)
    assert isinstance(agentgym_rft.registry.make("plainletters"), Letters)
    assert isinstance(make_env("plainletters"), GymTextEnv)


@pytest.mark.parametrize(
    ("step", "won", "score"),
    [
        (("x", 1.0, True, False, {}), True, 1.0),
        (("x", 0.9, True, False, {}), False, 0.9),
        (("x", 1.0, False, True, {}), False, 1.0),
        (("x", -3.0, True, False, {}), False, 0.0),
        (("x", 7.0, False, False, {}), False, 1.0),
        (("x", 1.0, True, False, {"won": False}), False, 1.0),
        (("x", 0.0, True, False, {"is_success": True}), True, 1.0),
        (("x", 0.0, True, False, {"won": np.bool_(True), "is_success": False}), True, 1.0),
        (("x", 0.0, True, False, {"score": np.float32(0.25)}), False, 0.25),
        (("x", np.float64(0.5), np.bool_(True), False, {}), False, 0.5),
        (("x", np.array(0.5), np.array(True), False, {"is_success": np.array(True)}), True, 1.0),
    ],
)
def test_won_and_score_are_filled_by_the_documented_rules(step, won, score):
    outcome = adapted(step).step("go")
    info = outcome[-1]
    assert (info["won"], info["score"]) == (won, score)
    assert [type(value) for value in outcome] == [str, float, bool, bool, dict]
    assert (type(info["won"]), type(info["score"]), info["invalid_action"]) == (bool, float, False)


def test_the_score_is_the_return_so_far():
    env = adapted(("a", 0.25, False, False, {}), ("b", 0.5, False, False, {}))
    assert [env.step("go")[-1]["score"] for _ in range(2)] == [0.25, 0.75]


def test_what_the_environment_says_itself_stays():
    given = {"state_key": "k", "invalid_action": True, "goal": "find it", "task_id": "mine"}
    info = adapted(("x", 0.0, False, False, given)).step("go")[-1]
    assert info == {**given, "task_id": "seed-17", "won": False, "score": 0.0}


def test_state_keys_are_of_the_history():
    env = make_env(f"{HERE}:Letters")

    def keys(task_id, *actions):
        first = env.reset(options={"task_id": task_id})[1]["state_key"]
        return [first, *(env.step(action)[-1]["state_key"] for action in actions)]

    assert keys("seed-1", "a", "b") == keys("seed-1", "a", "b")
    assert len({*keys("seed-1", "a", "b"), *keys("seed-1", "a", "c")}) == 4
    assert len({*keys("seed-1", "ab", "c"), *keys("seed-1", "a", "bc")}) == 5
    assert not {*keys("seed-1", "a")} & {*keys("seed-2", "a")}


def test_an_episode_is_cut_after_a_limit_and_stays_over():
    env = make_env(f"{HERE}:Letters")
    with pytest.raises(EnvError, match="There is no running episode of Letters: call reset before step"):
        env.step("a")
    env.reset(options=TASK)
    flags = [env.step("a")[2:4] for _ in range(MAX_STEPS)]
    assert flags == [(False, False)] * (MAX_STEPS - 1) + [(False, True)]
    with pytest.raises(EnvError, match="call reset before step"):
        env.step("a")
    env.reset(options=TASK)
    assert env.step("stop")[2:4] == (True, False)


def test_terminated_wins_over_truncated():
    assert adapted(("x", 0.0, True, True, {})).step("go")[2:4] == (True, False)


def test_lone_surrogates_are_replaced():
    assert adapted(("a\ud800b", 0.0, False, False, {})).step("\udfff")[0] == "a?b"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ((np.zeros(2), 0.0, False, False, {}), "Echo gave an observation of type ndarray, expected str."),
        (
            ("x", 0.0, False, {}),
            "Echo.step gave 4 values, expected (observation, reward, terminated, truncated, info).",
        ),
        ("x", "Echo.step gave a str, expected (observation, reward, terminated, truncated, info)."),
        (("x", "1", False, False, {}), "Echo gave a reward of type str, expected a number."),
        (("x", 0.0, False, False, None), "Echo gave an info of type NoneType, expected dict."),
        (("x", 0.0, False, False, {"won": "yes"}), "Echo gave info['won'] = 'yes', expected a bool."),
        (("x", 0.0, False, False, {"score": "1"}), "Echo gave a score of type str, expected a number."),
    ],
)
def test_a_wrong_answer_of_step_is_named(step, sentence):
    with pytest.raises(EnvError) as error:
        adapted(step).step("go")
    assert str(error.value) == sentence


def test_a_wrong_answer_of_reset_is_named():
    with pytest.raises(EnvError, match="Echo gave an observation of type int, expected str"):
        adapted(observation=3)
    env = Echo()
    env.reset = lambda *, seed, options: "Hello."
    with pytest.raises(EnvError, match=r"Echo\.reset gave a str, expected \(observation, info\)\."):
        GymTextEnv(env, {}).reset()


def test_spaces_that_are_not_text_and_other_objects_are_refused():
    with pytest.raises(ConfigError) as error:
        make_env(f"{HERE}:Numbers")
    assert str(error.value).startswith(f"Environment '{HERE}:Numbers' has action_space Discrete(4), expected text,")
    assert Numbers.action_space.n == 4
    with pytest.raises(ConfigError, match=r"Environment 'x' makes a int, expected an agentgym_rft\.envs\.TextEnv"):
        as_text_env(3, "x", {})
    with pytest.raises(ConfigError, match="makes a TimeLimit around a TextEnv, which hides its tasks"):
        as_text_env(gym.wrappers.TimeLimit(CounterEnv(), 3), "x", {})


def test_close_reaches_the_environment_once():
    env = adapted()
    env.close()
    env.close()
    assert env.env.num_closed == 1
