"""Every fault planted into a good environment is found, with its sentence."""

import random
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest

import agentgym_rft
from agentgym_rft.envs import AnyText, TextEnv, check_env
from agentgym_rft.envs.check import RULES
from agentgym_rft.errors import EnvContractError
from tests.envs.counter_env import CounterEnv


class NotATextEnv(gym.Env):
    pass


class NumbersOut(CounterEnv):
    observation_space = gym.spaces.Discrete(3)


class NoTasks(CounterEnv):
    def task_ids(self, split):
        super().task_ids(split)
        return []


class TaskTwice(CounterEnv):
    def task_ids(self, split):
        return [super().task_ids(split)[0]] * 2


class TextContent(CounterEnv):
    def task_content(self, task_id):
        return task_id


class SameContent(CounterEnv):
    def task_content(self, task_id):
        return b"count"


class AnySplit(CounterEnv):
    def task_ids(self, split):
        return super().task_ids("train")


class KeyErrorForTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        if (options or {}).get("task_id", "train-0") not in ("train-0", "train-1"):
            raise KeyError("task")
        return super().reset(seed=seed, options=options)


class ObservationOnly(CounterEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options)[0]


class OtherTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.task_id = "train-0"
        return self.observation(), self.info()


class FourValues(CounterEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class BytesOut(CounterEnv):
    def step(self, action):
        observation, *rest = super().step(action)
        return observation.encode(), *rest


class NanReward(CounterEnv):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


class IntegerFlag(CounterEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, int(terminated), truncated, info


class NoStateKey(CounterEnv):
    def info(self, invalid=False):
        info = super().info(invalid)
        del info["state_key"]
        return info


class ScoreInPercent(CounterEnv):
    def info(self, invalid=False):
        return super().info(invalid) | {"score": 100 * max(0, self.count) / self.goal}


class ActionsAsText(CounterEnv):
    def info(self, invalid=False):
        return super().info(invalid) | {"admissible_actions": "up, down"}


class WonButGoesOn(CounterEnv):
    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        self.is_over = truncated
        return observation, reward, False, truncated, info


class UnseededTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class GlobalRandom(CounterEnv):
    def observation(self):
        random.random()
        return super().observation()


class GlobalSeeding(CounterEnv):
    def reset(self, *, seed=None, options=None):
        np.random.seed(seed)  # noqa: NPY002
        return super().reset(seed=seed, options=options)


class SharedCounter(CounterEnv):
    shared: ClassVar = {"count": 0}

    @property
    def count(self):
        return self.shared["count"]

    @count.setter
    def count(self, value):
        self.shared["count"] = value


class SharedInfo(CounterEnv):
    def __init__(self):
        self.actions = ["up", "down"]
        super().__init__()

    def info(self, invalid=False):
        return super().info(invalid) | {"admissible_actions": self.actions}

    def observation(self):
        return f"{super().observation()} You can: {self.actions}"


class FussyParser(CounterEnv):
    def step(self, action):
        action.encode("utf-8")
        return super().step(action)


class StepsAfterEnd(CounterEnv):
    def step(self, action):
        self.is_over = False
        return super().step(action)


class RuntimeErrorAfterEnd(CounterEnv):
    def step(self, action):
        if self.is_over:
            raise RuntimeError("over")
        return super().step(action)


class NeverEnds(CounterEnv):
    def __init__(self):
        super().__init__(goal=10**9, max_steps=10**9)

    def step(self, action):
        self.count = 0
        return super().step("up")


class ForgetsSteps(CounterEnv):
    def restore(self, snapshot):
        super().restore(snapshot)
        self.count = 0
        return self.observation(), self.info()


class StateOutsideTheSnapshot(CounterEnv):
    num_calls = 0

    def restore(self, snapshot):
        result = super().restore(snapshot)
        self.num_calls = 0
        return result

    def step(self, action):
        self.num_calls += 1
        observation, *rest = super().step(action)
        return observation + "!" * (self.num_calls > 2), *rest


class HiddenSnapshot(CounterEnv):
    can_snapshot = False


class ClosesOnce(CounterEnv):
    is_closed = False

    def close(self):
        if self.is_closed:
            raise OSError("closed already")
        self.is_closed = True


class CrashesOnReset(CounterEnv):
    def reset(self, *, seed=None, options=None):
        raise ZeroDivisionError("division by zero")


FAULTS = {
    NotATextEnv: "NotATextEnv is not an agentgym_rft.envs.TextEnv; inherit from it.",
    NumbersOut: "observation_space is Discrete(3), expected a Text space such as AnyText().",
    NoTasks: "task_ids('train') is empty.",
    TaskTwice: "task_ids('train') names a task twice.",
    TextContent: "task_content('train-0') is a str, expected bytes.",
    SameContent: "task_content is the same for two tasks; splits could not be compared.",
    AnySplit: "task_ids of an unknown split is not refused, expected DataError.",
    KeyErrorForTask: "reset to an unknown task raises KeyError, expected DataError.",
    ObservationOnly: "reset gives a str, expected (observation, info).",
    OtherTask: "reset to task 'train-1' started 'train-0'.",
    FourValues: "step gives 4 values, expected (observation, reward, terminated, truncated, info).",
    BytesOut: "the observation of step is a bytes, expected str.",
    NanReward: "reward is nan, expected a finite number.",
    IntegerFlag: "terminated is a int, expected bool.",
    NoStateKey: "the info of reset lacks 'state_key'.",
    ScoreInPercent: "info['score'] is 33.3",
    ActionsAsText: "info['admissible_actions'] is not a list of str.",
    WonButGoesOn: "info['won'] is True but terminated is False; a win ends the episode.",
    UnseededTask: "two instances reset with seed 7 differ: observation ",
    GlobalRandom: "an episode draws from or seeds a global random generator; give the environment its own.",
    GlobalSeeding: "an episode draws from or seeds a global random generator; give the environment its own.",
    SharedCounter: "two instances with the same seed and actions differ: ",
    SharedInfo: "an episode changes when the info it returned is changed: observation ",
    FussyParser: "the action '\\ud800' raises UnicodeEncodeError: ",
    StepsAfterEnd: "a step after the end of the episode is answered, expected EnvError.",
    RuntimeErrorAfterEnd: "a step after the end raises RuntimeError, expected EnvError.",
    NeverEnds: "an episode did not end within 2000 steps; add a step limit.",
    ForgetsSteps: "restore in another instance does not give the observation and info of the snapshot: observation ",
    StateOutsideTheSnapshot: "a snapshot restored in another instance continues differently: observation ",
    HiddenSnapshot: "can_snapshot is False, but snapshot works; set can_snapshot = True.",
    ClosesOnce: "the second close raises OSError: closed already.",
    CrashesOnReset: "While checking 'reset gives observation and info': ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("faulty", FAULTS, ids=lambda env: env.__name__)
def test_a_planted_fault_is_found_with_its_sentence(faulty):
    with pytest.raises(EnvContractError) as error:
        check_env(faulty)
    assert str(error.value).startswith(FAULTS[faulty])


def test_every_rule_holds_for_a_good_environment():
    assert check_env(CounterEnv) == [rule.__name__ for rule in RULES]


def test_an_environment_is_checked_by_name_by_function_and_by_instance():
    agentgym_rft.register_env("tests/Checked-v0", CounterEnv)
    for env in ("tests/Checked-v0", lambda: CounterEnv(goal=2), CounterEnv(goal=2), gym.make("tests/Checked-v0")):
        assert len(check_env(env)) == len(RULES)


def test_a_checked_instance_is_not_stepped():
    env = CounterEnv()
    env.reset(seed=0)
    env.step("up")
    check_env(env)
    assert env.count == 1


def test_other_objects_and_uncopyable_instances_are_refused():
    with pytest.raises(EnvContractError, match="A int is not an environment"):
        check_env(3)
    env = CounterEnv()
    env.stream = (number for number in range(3))
    with pytest.raises(EnvContractError, match="CounterEnv cannot be copied"):
        check_env(env)


def test_any_text_holds_what_a_model_can_write():
    space = AnyText(5)
    assert "大\ud800" in space
    assert "" in space
    assert "123456" not in space
    assert 3 not in space
    assert isinstance(TextEnv.action_space, AnyText)
