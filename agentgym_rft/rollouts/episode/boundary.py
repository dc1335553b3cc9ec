"""The calls of an environment: with a deadline, its answers checked, its failures made data with a type."""

from __future__ import annotations

import asyncio
import math
import threading
from asyncio.tasks import _enter_task, _leave_task  # for those who run tasks of other loops
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.core import StopReason
from agentgym_rft.envs.forks import Lineage, end_fork
from agentgym_rft.envs.values import as_measures, as_number, as_score, as_won
from agentgym_rft.errors import EnvError, PolicyError, StorageError, message_of

T = TypeVar("T")
Step = tuple[str, float, bool, bool, dict[str, Any]]


async def guarded(
    play: Callable[[], Awaitable[StopReason]], num_turns: Callable[[], int]
) -> tuple[StopReason, dict[str, Any] | None]:
    """Play, and return how it ended; after an error also its type, message and turn.

    Raises nothing but StorageError: a disk that is full is no fault of the episode, and would be the end of them all.
    """

    def described(problem: Exception) -> dict[str, Any]:
        return {"type": type(problem).__name__, "message": message_of(problem)[:500], "turn": num_turns()}

    try:
        return await play(), None
    except TimeoutError as problem:
        return StopReason.TIMEOUT, described(problem)
    except StorageError:
        raise
    except PolicyError as problem:
        return StopReason.POLICY_ERROR, described(problem)
    except Exception as problem:  # the one boundary: an environment may raise anything
        return StopReason.ENV_ERROR, described(problem)


async def call(function: Callable[[], T], timeout_s: float | None) -> T:
    """Return what a call gives; with a deadline, it runs in a thread. Raises `TimeoutError` after the deadline.

    A thread that hangs is left behind: it blocks neither later calls nor the end of the process.
    """
    if timeout_s is None:
        return contained(function)
    try:
        return await asyncio.wait_for(in_thread(lambda: contained(function)), timeout_s)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {timeout_s:g} s") from error


def contained(function: Callable[[], T]) -> T:
    """Return what code from outside gives, and let it end neither the process nor the episode's task.

    It may run an event loop of its own, as it may where nobody else does. A fork that it makes does not come back.

    Raises:
        EnvError: it raised `SystemExit` or another exception that is no error. Ctrl-C goes through.
    """
    try:
        with _Outside():
            return function()
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as problem:
        raise EnvError(f"The environment raised {type(problem).__name__}: {message_of(problem)}") from problem


class _Outside:
    """Hide the event loop that runs in this thread, and its task, from what is called inside, and end its forks.

    No generator: it is a part of every turn, and takes 1 us as it is.
    """

    __slots__ = ("_depth", "_loop", "_task")

    def __enter__(self) -> None:
        self._depth = Lineage.depth
        self._loop = asyncio._get_running_loop()
        if self._loop is not None:
            self._task = asyncio.current_task(self._loop)
            if self._task is not None:
                _leave_task(self._loop, self._task)
            asyncio._set_running_loop(None)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Lineage.depth != self._depth:
            end_fork(problem)
        if self._loop is not None:
            asyncio._set_running_loop(self._loop)
            if self._task is not None:
                _enter_task(self._loop, self._task)


async def in_thread(function: Callable[[], T]) -> T:
    """Make a call that would block the event loop in a thread, and return what it gives."""
    answer: Future[tuple[T | None, Exception | None]] = Future()
    answer.set_running_or_notify_cancel()  # from now on it cannot be cancelled, so a late answer finds its place

    def work() -> None:
        try:
            answer.set_result((function(), None))
        except Exception as problem:  # handed over to the caller, below
            answer.set_result((None, problem))

    threading.Thread(target=work, daemon=True).start()
    value, problem = await asyncio.wrap_future(answer)
    if problem is not None:
        raise problem
    return value  # type: ignore[return-value]  # it is there where no problem is


def checked_step(step: Step) -> Step:
    """Return what `step` gave, with plain types. Raises `EnvError` for a reward that is no finite number."""
    observation, reward, terminated, truncated, info = step
    return observation, as_number("reward", reward), bool(terminated), bool(truncated), info


def checked_info(observation: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return `info` with defaults for `won` and `score`. Raises `EnvError` for a wrong value or observation."""
    if not isinstance(observation, str):
        raise EnvError(f"The environment gave an observation of type {type(observation).__name__}, expected str.")
    complete = {"won": False, "score": 0.0, "task_type": "", **info}
    complete |= {"won": as_won(complete["won"]), "score": as_score(complete["score"])}
    if not isinstance(complete["task_type"], str):
        raise EnvError(
            f"The environment gave a task_type of type {type(complete['task_type']).__name__}, expected str."
        )
    if "measures" in complete:
        complete["measures"] = as_measures(complete["measures"])
    return complete


def outcome_info(info: Mapping[str, Any], last_observation: str, max_steps: int, reset_seed: int) -> dict[str, Any]:
    """Return what a trajectory says about how its episode ended, and the seed to begin it again with."""
    return {
        "won": info.get("won", False),
        "score": info.get("score", 0.0),
        "task_type": info.get("task_type", ""),
        **({"measures": info["measures"]} if "measures" in info else {}),
        "last_observation": last_observation,
        "max_steps": max_steps,
        "reset_seed": reset_seed,
    }


def is_stepped(error: str, agent: str) -> bool:
    """Return True if a reply reaches the environment; `error` says why there is no action in it, "" if there is
    one.

    A reply with an action always does. One without is the only case in which it matters whether an environment names
    its agents. An only agent (`agent` is "") keeps nobody waiting, and its environment has no rule for saying nothing:
    the feedback of its card is the next observation, and nothing else changes. Among named agents the turn has to pass
    on, and what it costs to waste it is the game's to say: the environment gets an empty action, and its rules follow.
    """
    return not error or bool(agent)


def check_completion(completion: Completion) -> None:
    """Raise `PolicyError` unless there are ids, each with a log-prob that is one."""
    if not completion.ids or len(completion.ids) != len(completion.logprobs):
        raise PolicyError(
            f"The policy gave {len(completion.ids)} ids with {len(completion.logprobs)} log-probs, "
            "expected as many of each and at least one."
        )
    if not all(-math.inf < logprob <= 1e-6 for logprob in completion.logprobs):
        raise PolicyError("The policy gave a log-prob that is not a finite number below zero.")
