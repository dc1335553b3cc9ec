"""The ScienceWorld environment: the original simulator, its JVM in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from typing import ClassVar

from agentgym_rft.envs.process.env import ProcessEnv
from agentgym_rft.errors import ConfigError
from agentgym_rft_scienceworld.variations import NUM_VARIATIONS, SPLITS, check_tasks, panel, read_task


class ScienceWorldEnv(ProcessEnv):
    """Elementary-school science experiments in text. Reward: what an action adds to the score, which is 0 to 1.

    Args:
        tasks: which of the 30 tasks, in a str separated by commas; default: all.
        split: the variations that `reset` draws from without a `task_id`: `train`, `dev` or `test`, the official ones.
        max_steps: the episode is truncated after so many actions.
        simplifications: ScienceWorld's, separated by commas: `easy`, `teleportAction`, `openDoors`, ...
        admissible: give all valid actions as `info["admissible_actions"]`; up to 3,000, about 0.2 s a step.
        timeout_s: deadline of each call; None: no deadline. The oracle needs up to 30 s.
    Raises:
        ConfigError: Java is missing, or an argument is wrong.
        DataError: the split is unknown.
    """

    can_snapshot: ClassVar[bool] = True
    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __init__(
        self,
        tasks: str | Sequence[str] | None = None,
        split: str = "train",
        max_steps: int = 100,
        simplifications: str = "",
        admissible: bool = False,
        timeout_s: float | None = 120.0,
    ) -> None:
        if shutil.which("java") is None:
            raise ConfigError("ScienceWorld runs in a JVM, and there is no 'java' on the PATH; install Java 17.")
        if isinstance(tasks, str):
            tasks = [name.strip() for name in tasks.split(",")]
        self._tasks = tuple(NUM_VARIATIONS) if tasks is None else tuple(tasks)
        check_tasks(self._tasks)
        panel(self._tasks, split)
        if max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps}; expected at least 1.")
        self._simplifications = simplifications
        options = {
            "tasks": self._tasks,
            "split": split,
            "max_steps": max_steps,
            "simplifications": simplifications,
            "admissible": admissible,
        }
        super().__init__("agentgym_rft_scienceworld.game:GameEnv", options, timeout_s=timeout_s, lazy=True)

    def task_ids(self, split: str) -> Sequence[str]:
        return panel(self._tasks, split)

    def task_content(self, task_id: str) -> bytes:
        """Task, variation, simplifications and the version of scienceworld: what the world is made from."""
        task, variation = read_task(task_id)
        made_from = {
            "task": task,
            "variation": variation,
            "simplifications": self._simplifications,
            "scienceworld": importlib.metadata.version("scienceworld"),
        }
        return json.dumps(made_from, sort_keys=True).encode()
