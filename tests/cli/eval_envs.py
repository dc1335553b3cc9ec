"""Environments in which something happens to an evaluation."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.envs.counted_env import Counted
from tests.envs.counter_env import CounterEnv


class KilledOnce(CounterEnv):
    """The process dies in the reset of its second task, the first time."""

    def reset(self, *, seed=None, options=None):
        log = Path(os.environ["KILLED_ONCE"])
        with log.open("a") as file:
            file.write(f"{options['task_id']}\n")
        if log.read_text().splitlines() == ["valid_unseen-0", "valid_unseen-1"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed, options=options)


class Interrupted(Counted):
    """Ctrl-C in the second task, the first time."""

    is_pressed = False

    def step(self, action):
        if self.task_id.endswith("1") and not Interrupted.is_pressed:
            Interrupted.is_pressed = True
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


class Hanging(Counted):
    """One task never answers."""

    def step(self, action):
        if self.task_id.endswith("1"):
            threading.Event().wait()
        return super().step(action)


class Leaking(Counted):
    """A test task is a training task."""

    def task_content(self, task_id):
        return super().task_content("train-2" if task_id == "valid_unseen-1" else task_id)


class Flaky(Counted):
    """One task breaks."""

    def reset(self, *, seed=None, options=None):
        if options["task_id"] == "valid_unseen-2":
            raise KeyError("mug")
        return super().reset(seed=seed, options=options)


class Changed(Counted):
    """Another generator."""

    def task_content(self, task_id):
        return super().task_content(task_id) + (b"" if task_id == "valid_unseen-0" else b"!")
