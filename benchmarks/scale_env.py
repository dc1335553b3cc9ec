"""An environment and a policy for benchmarks of what lies around them.

A task of the environment is `KIND:MS`, for example `cpu:1` (computes for 1 ms of CPU time) or `sleep:5` (waits 5 ms,
as for a server). Any text is an action. The policy says the same at every turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agentgym_rft.agents.policies.scripted import ScriptedPolicy
from agentgym_rft.envs.base import TextEnv

TASKS = ("cpu:0", "cpu:1", "cpu:5", "sleep:1", "sleep:5")


class ScaleEnv(TextEnv):
    """Goes on for ever: `EpisodeSpec.max_steps` ends an episode."""

    def __init__(self) -> None:
        self._kind, self._cost_s, self._num_steps = "cpu", 0.0, 0

    def task_ids(self, split: str) -> Sequence[str]:
        return TASKS

    def task_content(self, task_id: str) -> bytes:
        return task_id.encode()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._kind, _, cost_ms = (options or {}).get("task_id", "cpu:0").partition(":")
        self._cost_s, self._num_steps = float(cost_ms) / 1e3, 0
        return "You are in the middle of a room.", self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._num_steps += 1
        if self._kind == "sleep":
            time.sleep(self._cost_s)
        elif self._cost_s:
            end = time.thread_time() + self._cost_s
            while time.thread_time() < end:
                pass
        return f"You see a door, {self._num_steps % 10}.", 0.0, False, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {"won": False, "score": 0.0, "state_key": str(self._num_steps % 10)}


def scripted_policy(tokens: Any) -> ScriptedPolicy:
    """Return a policy that says the same at every turn."""
    ids = (*tokens.encode("go to door 1", add_special_tokens=False), tokens.eos_token_id)
    return ScriptedPolicy(lambda prompt: ids)
