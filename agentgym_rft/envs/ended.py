"""Environments at their end, and those that never began."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from agentgym_rft.envs.base import AwaitableEnv, TextEnv
from agentgym_rft.errors import EnvError, message_of

CLOSE_S = 5.0  # for an environment to close
CLOSE_ALL_S = 15.0  # after which no other one is closed
_log = logging.getLogger(__name__)


class _Late(BaseException):
    """Ends a call that takes too long; no error, so that no `except Exception` of an environment takes it."""


def close_envs(envs: deque[TextEnv]) -> None:
    """Close environments one after the other, as `close_env` does, and give up those that are left when time is up."""
    give_up = time.monotonic() + CLOSE_ALL_S
    while envs and time.monotonic() < give_up:
        close_env(envs.pop())
    if envs:
        _log.warning("%d environments were not closed: others took longer than %g s.", len(envs), CLOSE_ALL_S)
    while envs:
        left = envs.pop()
        if isinstance(left, AwaitableEnv):
            left.abandon()


def close_env(env: TextEnv) -> None:
    """Close an environment; what that raises is a warning, since everything it was for is done."""
    try:
        close_in_time(env)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # whatever its author wrote
        _log.warning("An environment could not be closed: %s: %s", type(problem).__name__, message_of(problem))


def close_in_time(env: TextEnv) -> None:
    """Close an environment. Raises `TimeoutError` where that takes longer than `CLOSE_S`.

    In the main thread it is cut off by a signal: what belongs to a thread (a database, a browser) is closed in the one
    that made it. Other threads hear no signals, so there it is left to a thread of its own.
    """
    try:
        if threading.current_thread() is threading.main_thread():
            with _alarm(CLOSE_S):
                env.close()
        else:
            _in_thread(env, CLOSE_S)
    except (_Late, TimeoutError) as problem:
        raise TimeoutError(message_of(problem) or f"close took longer than {CLOSE_S:g} s") from problem


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_Late` in what runs inside when time is up."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)  # None: it is not of Python


def _in_thread(env: TextEnv, timeout_s: float) -> None:
    closed: Future[None] = Future()

    def work() -> None:
        try:
            closed.set_result(env.close())
        except BaseException as problem:  # handed over to the caller
            closed.set_exception(problem)

    threading.Thread(target=work, daemon=True).start()
    closed.result(timeout_s)


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
