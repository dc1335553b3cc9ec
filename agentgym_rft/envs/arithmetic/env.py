"""The arithmetic environment: one problem, one reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from agentgym_rft.envs.arithmetic.problems import LEVELS, Problem, answer_text, problem, solve, task_ids
from agentgym_rft.envs.arithmetic.verifier import read_answer
from agentgym_rft.envs.task_env import Outcome, TaskEnv
from agentgym_rft.errors import ConfigError, EnvError

RULES = "Solve the problem. The last line of your reply is #### and the answer, a number or a fraction."
_FORM = "There was no single number in the reply."


class ArithmeticEnv(TaskEnv):
    """Problems of five levels. The first reply ends the episode: reward and score are 1 if its number is exactly right.

    Args:
        level: problems of this level only; 0 takes all five in turn.
        split: the tasks that `reset` draws from without a `task_id`.
    Raises:
        DataError: the split is unknown.
        ConfigError: another argument is wrong.
    """

    snapshot_kind: ClassVar[str] = "arithmetic-1"

    def __init__(self, level: int = 0, split: str = "train", render_mode: str | None = None) -> None:
        if level not in (0, *LEVELS):
            raise ConfigError(f"level is {level}; expected 1 to {LEVELS[-1]}, or 0 for all.")
        super().__init__(split, 1, render_mode, {})
        self._levels = LEVELS if level == 0 else (level,)
        self._problem: Problem | None = None
        self._won: bool | None = None  # None before the reply

    def task_ids(self, split: str) -> Sequence[str]:
        self.check_split(split)
        return task_ids(split, self._levels)

    def task_content(self, task_id: str) -> bytes:
        return problem(task_id).content()

    def expert(self, observation: str, rng: np.random.Generator, noise: float = 0.0) -> Calculator:
        """Return a player that reads the problem and computes; at rate `noise` its answer is off by one."""
        return Calculator(rng, noise)

    def oracle(self) -> Calculator:
        """Return the expert without noise: all that is to be known is in the problem."""
        return Calculator()

    def random_player(self, rng: np.random.Generator) -> Guesser:
        return Guesser(rng)

    def _begin(self, task_id: str) -> str:
        self._problem = problem(task_id)
        self._won = None
        return f"{RULES}\n{self._problem.text}"

    def _act(self, action: str) -> Outcome:
        given = read_answer(action)
        self._won = given == self._asked().answer
        said = "The answer is right." if self._won else "The answer is wrong."
        if given is None:
            said = f"{said} {_FORM}"
        return Outcome(said, reward=float(self._won), is_final=True, is_invalid=given is None)

    def _facts(self) -> dict[str, Any]:
        asked = self._asked()
        return {
            "won": self._won is True,
            "score": float(self._won is True),
            "state_key": f"{asked.text} {self._won}",
            "task_type": f"level-{asked.level}",
            "goal": asked.text,
        }

    def _saved(self) -> dict[str, Any]:
        return {"won": self._won}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        if saved["won"] not in (None, True, False):
            raise ValueError(f"won is {saved['won']!r}")
        self._won = saved["won"]

    def _asked(self) -> Problem:
        assert self._problem is not None, "the base class asks only within an episode"
        return self._problem


class Guesser:
    """Replies with a whole number from 0 to 100 drawn at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, observation: str) -> str:
        """Return the reply."""
        return str(int(self._rng.integers(101)))


class Calculator:
    """Solves the problem that an observation ends with."""

    def __init__(self, rng: np.random.Generator | None = None, noise: float = 0.0) -> None:
        self._rng = rng
        self._noise = noise

    def act(self, observation: str) -> str:
        """Return the answer after `####`. Raises `EnvError` if the observation has no problem of this environment."""
        answer = solve(observation.rstrip().splitlines()[-1] if observation.strip() else "")
        if answer is None:
            raise EnvError("The observation does not end with a problem of this environment.")
        if self._rng is not None and self._rng.random() < self._noise:
            answer += 1 if self._rng.random() < 0.5 else -1
        return f"#### {answer_text(answer)}"
