"""A two-action environment for tests: say `up` until the counter reaches its goal; `down` at zero loses."""

from __future__ import annotations

import json

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import DataError, EnvError

SPLIT_SIZES = {"train": 4, "valid_seen": 2, "valid_unseen": 3}


class CounterEnv(TextEnv):
    """Keeps the contract. Faulty environments in the tests are this one with one thing broken."""

    can_snapshot = True

    def __init__(self, goal: int = 3, max_steps: int = 30) -> None:
        self.goal, self.max_steps = goal, max_steps
        self.task_id, self.count, self.num_steps, self.is_over = "", 0, 0, True

    def task_ids(self, split):
        if split not in SPLIT_SIZES:
            raise DataError(f"There is no split '{split}'.")
        return [f"{split}-{number}" for number in range(SPLIT_SIZES[split])]

    def task_content(self, task_id):
        return f"count to {self.goal}: {task_id}".encode()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        tasks = [task for split in SPLIT_SIZES for task in self.task_ids(split)]
        task_id = (options or {}).get("task_id") or tasks[self.np_random.integers(len(tasks))]
        if task_id not in tasks:
            raise DataError(f"There is no task '{task_id}'.")
        self.task_id, self.count, self.num_steps, self.is_over = task_id, 0, 0, False
        return self.observation(), self.info()

    def step(self, action):
        if self.is_over:
            raise EnvError("The episode is over; call reset.")
        self.num_steps += 1
        is_valid = action in ("up", "down")
        if is_valid:
            self.count += 1 if action == "up" else -1
        terminated = self.count in (self.goal, -1)
        truncated = self.num_steps >= self.max_steps and not terminated
        self.is_over = terminated or truncated
        return self.observation(), float(self.won), terminated, truncated, self.info(not is_valid)

    @property
    def won(self):
        return self.count == self.goal

    def observation(self):
        return f"{self.task_id}: the counter shows {self.count}."

    def info(self, invalid=False):
        return {
            "task_id": self.task_id,
            "won": self.won,
            "score": max(0, self.count) / self.goal,
            "admissible_actions": ["up", "down"],
            "state_key": f"{self.task_id} {self.count}",
            "invalid_action": invalid,
            "task_type": "even" if self.task_id[-1] in "02" else "odd",
        }

    def snapshot(self):
        return json.dumps([self.task_id, self.count, self.num_steps, self.is_over]).encode()

    def restore(self, snapshot):
        try:
            self.task_id, self.count, self.num_steps, self.is_over = json.loads(snapshot)
        except ValueError as error:
            raise EnvError("This is no snapshot of CounterEnv.") from error
        return self.observation(), self.info()
