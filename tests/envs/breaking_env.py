"""An environment that breaks in the way that its task or an action says."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from agentgym_rft.errors import DataError
from tests.envs.counter_env import CounterEnv


class OwnDataError(DataError):
    """A user's own error: a kind of one of the package's."""


class Player:
    def __init__(self, env, actions):
        self.env, self.actions = env, actions

    def act(self, observation):
        return self.actions[self.env.num_steps % len(self.actions)]


def sleep_for_ever():
    threading.Event().wait()


def fork_and_die():
    """Leave a child behind that holds whatever this process had open, as engines that fork do."""
    if os.fork() == 0:
        sleep_for_ever()
    os._exit(5)


def fork_and_exit():
    if os.fork() == 0:
        sys.exit()


def hold_the_lock():
    """Let no other thread run and hear no signal that can be ignored, beside a process that was started."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])
    os.write(2, b"holding\n")
    sum(range(10**12))


def print_everywhere():
    print("print")
    sys.stdout.flush()
    os.write(1, b"descriptor 1")
    ctypes.CDLL(None).puts(b"the C library")
    subprocess.run(["echo", "another process"], check=True)


def raise_value_error():
    raise ValueError("the counter is stuck")


def raise_own_error():
    raise OwnDataError("no such counter")


FAULTS = {
    "raise": raise_value_error,
    "raise own": raise_own_error,
    "exit": lambda: sys.exit(4),
    "die": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sleep": sleep_for_ever,
    "spin": lambda: [None for _ in iter(time.monotonic, None)],
    "fork": fork_and_die,
    "fork and exit": fork_and_exit,
    "hold": hold_the_lock,
    "print": print_everywhere,
}


class BreakingEnv(CounterEnv):
    """`FAULTS[action]` happens in a step, `FAULTS[fault]` in a reset or, with `when="make"`, while it is made."""

    splits = ("train", "valid_seen")

    def __init__(self, fault="", when="reset", goal=3):
        super().__init__(goal=goal)
        self.fault, self.when = fault, when
        self._break("make")

    def _break(self, when):
        if self.fault and self.when == when:
            FAULTS[self.fault]()

    def reset(self, *, seed=None, options=None):
        self._break("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        FAULTS.get(action, lambda: None)()
        observation, reward, terminated, truncated, info = super().step(action)
        if action == "unpicklable":
            info["lock"] = threading.Lock()
        return f"{observation} {self.np_random.integers(1000)}", reward, terminated, truncated, info

    def expert(self, observation, rng, noise=0.0):
        return Player(self, ["down" if rng.random() < noise else "up"])

    def oracle(self):
        return Player(self, ["up"])

    def remaining(self):
        return self.goal - self.count

    def close(self):
        self._break("close")
