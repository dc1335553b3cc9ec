"""The environment inside the worker process: ScienceWorld's simulator, in a JVM, behind the contract."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scienceworld import ScienceWorldEnv as Simulator

from agentgym_rft.envs.base import Expert
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.errors import EnvError, ReplayDiverged
from agentgym_rft_scienceworld.variations import SPLITS, panel, read_task

_MAX_COMMAND = 500  # characters; the longest valid action has about 100
# Rooms list their things in the order of sets of objects; `hashCode` makes that order the same in every JVM. A small
# heap: without a limit each JVM takes a quarter of the machine's memory.
_JAVA_OPTIONS = "-XX:+UnlockExperimentalVMOptions -XX:hashCode=2 -Xmx1g -XX:+UseSerialGC"
_NOT_UNDERSTOOD = ("No known action matches that input", "Unknown action")


class GameEnv(TaskEnv):
    """Plays in one JVM. `ScienceWorldEnv` hosts it and documents the arguments.

    The simulator's own `step` lists all valid actions every time, which takes 30 times as long as the step itself; so
    its server is called directly.
    """

    splits: ClassVar[tuple[str, ...]] = SPLITS
    snapshot_kind: ClassVar[str] = "ScienceWorld-1"

    def __init__(
        self, tasks: Sequence[str], split: str, max_steps: int, simplifications: str, admissible: bool
    ) -> None:
        super().__init__(split, max_steps, None, {"simplifications": simplifications})
        self._tasks = tuple(tasks)
        self._simplifications = simplifications
        self._show_admissible = admissible
        given = os.environ.get("JAVA_TOOL_OPTIONS", "")
        if _JAVA_OPTIONS not in given:
            os.environ["JAVA_TOOL_OPTIONS"] = f"{_JAVA_OPTIONS} {given}".strip()  # the last word is the user's
        self._simulator = Simulator()
        self._loaded = self._goal = ""
        self._log: list[str] = []

    def task_ids(self, split: str) -> list[str]:
        return panel(self._tasks, split)

    def oracle(self) -> Expert:
        """A player of the simulator's gold path, which begins where the episode does. Finding it takes up to 30 s."""
        if self._is_over or self._log:
            raise EnvError("ScienceWorld knows how to win from the start only; ask for the oracle right after reset.")
        self._load(self._loaded, gold=True)
        return _Oracle(self._simulator.get_gold_action_sequence())

    def close(self) -> None:
        super().close()
        self._simulator.close()

    def _load(self, task_id: str, gold: bool = False) -> str:
        """The world at its start, looked at as the simulator's own `reset` does: till then its score is an old one."""
        task, variation = read_task(task_id)
        self._seed(variation)
        self._simulator.load(task, variation, self._simplifications, generateGoldPath=gold)
        self._simulator._gateway.jvm.util.UniqueIdentifier.reset()
        self._server.reset()
        return self._do("look around")

    def _do(self, command: str) -> str:
        """What the simulator answers. Bees fly at random; here always in the same way after the same actions."""
        self._seed(len(self._log))
        return str(self._server.step(command)).strip()

    def _seed(self, seed: int) -> None:
        scala = self._simulator._gateway.jvm.scala.util
        getattr(getattr(scala, "Random$"), "MODULE$").setSeed(seed)

    @property
    def _server(self) -> Any:
        return self._simulator.server

    def _begin(self, task_id: str) -> str:
        self._log = []
        self._loaded = task_id
        view = self._load(task_id)
        self._goal = " ".join(str(self._server.getTaskDescription()).split())
        return f"{self._goal}\n\n{view}"

    def _act(self, action: str) -> Outcome:
        before = self._score()
        self._log.append(action)
        observation = self._do(_typed(action))
        is_final = bool(self._server.getCompleted()) or self._is_failed()
        is_invalid = observation.startswith(_NOT_UNDERSTOOD)
        return Outcome(observation, self._score() - before, is_final, is_invalid)

    def _is_failed(self) -> bool:
        """The simulator scores -1 for focusing on a wrong object."""
        return float(self._server.getScore()) < 0

    def _score(self) -> float:
        """0 to 1, in hundredths as the simulator's own interface gives it."""
        return max(0, round(100 * float(self._server.getScore()))) / 100

    def _facts(self) -> dict[str, Any]:
        score = self._score()
        facts: dict[str, Any] = {
            "won": bool(self._server.getCompleted()) and score == 1.0,
            "score": score,
            "state_key": self._state_key(),
            "task_type": read_task(self._loaded)[0],
            "goal": self._goal,
        }
        if self._show_admissible:
            facts["admissible_actions"] = sorted(map(str, self._server.getValidActionObjectCombinations()))
        return facts

    def _state_key(self) -> str:
        """32 hex digits: what can be seen, the score and the number of moves: things warm up and grow unseen."""
        seen = [
            self._loaded,
            str(self._server.freeActionLook()),
            str(self._server.freeActionInventory()),
            repr(float(self._server.getScore())),
            str(self._server.getNumMoves()),
        ]
        return hashlib.blake2b("\0".join(seen).encode(), digest_size=16).hexdigest()

    def _saved(self) -> dict[str, Any]:
        return {"log": self._log, "key": self._state_key()}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        """Replay a log: the simulator cannot be copied."""
        for action in saved["log"]:
            self._log.append(str(action))
            self._do(_typed(str(action)))
        if self._state_key() != saved["key"]:
            raise ReplayDiverged(f"Replaying {len(self._log)} actions led to another state than the recorded one.")


class _Oracle:
    def __init__(self, actions: Sequence[str]) -> None:
        self._actions = iter(actions)

    def act(self, observation: str) -> str:
        return next(self._actions, "wait1")


def _typed(action: str) -> str:
    """An action as one line that can be sent to the JVM."""
    line = "".join(letter if letter.isprintable() else " " for letter in action[:_MAX_COMMAND])
    return " ".join(line.split())
