"""Environments at their end, and those that never began."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from agentgym_rft.envs.base import TextEnv
from agentgym_rft.errors import EnvError, message_of

_log = logging.getLogger(__name__)


def close_env(env: TextEnv) -> None:
    """Close an environment; what that raises is a warning, since everything it was for is done."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # whatever its author wrote
        _log.warning("An environment could not be closed: %s: %s", type(problem).__name__, message_of(problem))


class UnmadeEnv(TextEnv):
    """Stands for an environment whose constructor failed while a run was on: every call says so."""

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    def task_ids(self, split: str) -> Sequence[str]:
        self._refuse()

    def task_content(self, task_id: str) -> bytes:
        self._refuse()

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._refuse()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        problem = f"{type(self._problem).__name__}: {message_of(self._problem)}"
        raise EnvError(f"The environment could not be made: {problem}") from self._problem
