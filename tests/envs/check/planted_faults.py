"""Environments with one fault each: `CounterEnv`, which keeps the contract, with one thing broken."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import ClassVar

import gymnasium as gym
import numpy as np

from agentgym_rft.envs import AnyText
from agentgym_rft.errors import EnvError
from tests.envs.counter_env import CounterEnv


class NotATextEnv:
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
        return super().task_ids(split) if split in self.splits else []


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
        return observation, reward, False, truncated, info | {"score": float(self.won)}


class UnseededTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None, options=options)


class GlobalRandom(CounterEnv):
    def observation(self):
        random.random()
        return super().observation()


class ChangesFolder(CounterEnv):
    def step(self, action):
        os.chdir("/")
        return super().step(action)


class BlankAction(CounterEnv):
    def info(self, invalid=False):
        return {**super().info(invalid), "admissible_actions": ["up", "down", " "]}


class TwoSpaces(CounterEnv):
    def step(self, action):
        return super().step("up" if action == "go  up" else action)

    def info(self, invalid=False):
        return {**super().info(invalid), "admissible_actions": ["up", "down", "go  up"]}


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

    def reset(self, *, seed=None, options=None):
        self.num_calls = 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.num_calls += 1
        observation, reward, *rest = super().step(action)
        return observation, reward + (self.num_calls > 2), *rest


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


class SplitsAsList(CounterEnv):
    splits: ClassVar = ["train", "valid_seen"]


class SplitTwice(CounterEnv):
    splits: ClassVar = ("train", "valid_seen", "train")


class SplitsShareATask(CounterEnv):
    def task_ids(self, split):
        return [*super().task_ids(split), "train-0"] if split == "valid_seen" else super().task_ids(split)


class SplitsShareContent(CounterEnv):
    def task_content(self, task_id):
        return task_id.removeprefix("valid_unseen-").removeprefix("valid_seen-").encode()


class UnstableTasks(CounterEnv):
    def task_ids(self, split):
        ids = super().task_ids(split)
        random.shuffle(ids)
        return ids + [f"{split}-{number}" for number in random.sample(range(50, 90), 20)]


class Unrepeatable(CounterEnv):
    """Its generator is seeded by the clock, which differs from one instance to the next."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng()

    def step(self, action):
        observation, *rest = super().step(action)
        return f"{observation} It is {self.rng.random()} o'clock.", *rest


class AlwaysTheFirstTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed, options=options or {"task_id": "train-0"})


class UnlistedTask(CounterEnv):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | ({} if options else {"task_id": "train-99"})


class SeedsAnewEachTime(CounterEnv):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed or 0, options=options)


class TaskIdChanges(CounterEnv):
    def step(self, action):
        *rest, info = super().step(action)
        return *rest, info | {"task_id": "train-3"}


class StepBeforeReset(CounterEnv):
    def __init__(self):
        super().__init__()
        self.task_id, self.is_over = "train-0", False


class CarriesOver(CounterEnv):
    total = 0

    def step(self, action):
        self.total += 1
        observation, *rest = super().step(action)
        return f"{observation} {self.total > 10}", *rest


class OneThreadOnly(CounterEnv):
    def __init__(self):
        super().__init__()
        self.database = sqlite3.connect(":memory:")

    def step(self, action):
        self.database.execute("select 1")
        return super().step(action)

    def close(self):
        self.database.close()


class EndsTwice(CounterEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, terminated or truncated, info


class HalfAWin(CounterEnv):
    def info(self, invalid=False):
        info = super().info(invalid)
        return info | {"score": info["score"] / 2}


class DigitParser(CounterEnv):
    def step(self, action):
        if action.isdigit():
            int(action)
        return super().step(action)


class Echo(CounterEnv):
    def step(self, action):
        observation, *rest = super().step(action)
        return f"You said {action[:99]}. {observation}", *rest


class LongEcho(CounterEnv):
    observation_space = AnyText(5000)

    def step(self, action):
        observation, *rest = super().step(action)
        return f"You said {action.encode('utf-8', 'replace').decode()}. {observation}", *rest


class OneStateKey(CounterEnv):
    def info(self, invalid=False):
        return super().info(invalid) | {"state_key": self.task_id}


class StateKeyWithoutTask(CounterEnv):
    def info(self, invalid=False):
        return super().info(invalid) | {"state_key": str(self.count)}


class SnapshotActs(CounterEnv):
    def snapshot(self):
        data = super().snapshot()
        self.count = 0
        return data


class SnapshotAsText(CounterEnv):
    def snapshot(self):
        return super().snapshot().decode()


class PickledSnapshot(CounterEnv):
    def snapshot(self):
        return pickle.dumps(json.loads(super().snapshot()))

    def restore(self, snapshot):
        return super().restore(json.dumps(pickle.loads(snapshot)).encode())


class TrustingRestore(CounterEnv):
    def restore(self, snapshot):
        self.task_id, self.count, self.num_steps, self.is_over = json.loads(snapshot)
        return self.observation(), self.info()


class HashOrder(CounterEnv):
    def observation(self):
        return f"{super().observation()} You see {set('abcdefghij')}."


class HashedContent(CounterEnv):
    def task_content(self, task_id):
        return str(hash(task_id)).encode()


class SnapshotByReference(CounterEnv):
    kept: ClassVar = {}

    def snapshot(self):
        self.kept[str(len(self.kept))] = super().snapshot()
        return str(len(self.kept) - 1).encode()

    def restore(self, snapshot):
        if snapshot.decode() not in self.kept:
            raise EnvError("There is no such snapshot.")
        return super().restore(self.kept[snapshot.decode()])


class LeaksMemory(CounterEnv):
    def __init__(self):
        super().__init__()
        self.history = []

    def step(self, action):
        outcome = super().step(action)
        self.history.append(outcome)
        return outcome


class LeaksFiles(CounterEnv):
    files: ClassVar = []

    def reset(self, *, seed=None, options=None):
        self.files.append(open(os.devnull, encoding="utf-8"))  # noqa: SIM115
        return super().reset(seed=seed, options=options)


class LeaksThreads(CounterEnv):
    done = threading.Event()

    def __init__(self):
        super().__init__()
        threading.Thread(target=self.done.wait, daemon=True).start()


class LeaksProcesses(CounterEnv):
    processes: ClassVar = []

    def __init__(self):
        super().__init__()
        self.processes.append(subprocess.Popen(["sleep", "60"]))


class EndsPython(CounterEnv):
    def step(self, action):
        sys.exit(3)


class SleepsForEver(CounterEnv):
    def step(self, action):
        time.sleep(10**6)


class SleepsInItsFirstReset(CounterEnv):
    def reset(self, *, seed=None, options=None):
        threading.Event().wait()


class ExitsTheProcess(CounterEnv):
    def step(self, action):
        os._exit(3)


class KillsTheProcess(CounterEnv):
    def step(self, action):
        os.kill(os.getpid(), signal.SIGKILL)


class SharedRoom(CounterEnv):
    """The last instance that was reset is in the room; in another's steps, the door has closed."""

    in_room: ClassVar = []

    def reset(self, *, seed=None, options=None):
        self.in_room[:] = [id(self)]
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, *rest = super().step(action)
        return f"{observation} {self.in_room == [id(self)]}", *rest


class WearsOut(CounterEnv):
    """Differs from its fourth episode on."""

    num_episodes = 0

    def reset(self, *, seed=None, options=None):
        self.num_episodes += 1
        return super().reset(seed=seed, options=options)

    def observation(self):
        return super().observation() + "!" * (self.num_episodes >= 3)


class ExitsOnEmptyText(CounterEnv):
    def step(self, action):
        if not action:
            os._exit(7)
        return super().step(action)


class TakesSignals(CounterEnv):
    def reset(self, *, seed=None, options=None):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return super().reset(seed=seed, options=options)


class KeepsAThread(CounterEnv):
    """One for all instances, so no number of them grows."""

    thread: ClassVar = None
    done = threading.Event()

    def step(self, action):
        if KeepsAThread.thread is None:
            KeepsAThread.thread = threading.Thread(target=self.done.wait, name="engine")
            KeepsAThread.thread.start()
        return super().step(action)


class WithoutText(BaseException):
    def __str__(self):
        raise RuntimeError("no text")


class RaisesWithoutText(CounterEnv):
    def step(self, action):
        raise WithoutText


class CountedMeasures(CounterEnv):
    def step(self, action):
        *rest, info = super().step(action)
        return *rest, info | {"measures": {"length": None}}


class FailsToBeMade(CounterEnv):
    """Works some times."""

    made = 0

    def __init__(self):
        super().__init__()
        FailsToBeMade.made += 1
        if FailsToBeMade.made % 7 == 0:
            raise OSError("no port is left")
