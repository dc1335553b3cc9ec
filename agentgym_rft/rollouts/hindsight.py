"""Where an episode went wrong, by the environment's own measure of what is left to do.

The actions are replayed in an environment of the same task, which must tell the length of the shortest completion
(`TextEnv.remaining`). No model is involved.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentgym_rft.agents.reflect import Outcome, Report
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import TextEnv

MIN_EXCESS = 8  # turns beyond the shortest win that make a win inefficient


def remaining_after(env: TextEnv, trajectory: Trajectory) -> list[int] | None:
    """The shortest completion at the start and after every turn: one number more than there are turns.

    None if the environment cannot tell at one of these points. A turn without an action changes nothing. The
    environment is reset for it, so it must not be in use.
    """
    env.reset(options={"task_id": trajectory.task_id})
    left = [env.remaining()]
    for turn in trajectory.turns:
        if turn.info["action"]:
            env.step(turn.info["action"])
        left.append(env.remaining())
    known = [number for number in left if number is not None]
    return known if len(known) == len(left) else None


def pivot_of(left: Sequence[int]) -> int:
    """The first turn after which the shortest completion is longer than before it; 0 if there is none.

    Example: [5, 5, 4, 5, 5] -> 2, because the third action led from 4 to 5 commands.
    """
    return next((k for k in range(len(left) - 1) if left[k + 1] > left[k]), 0)


def hindsight_pivot(env: TextEnv, trajectory: Trajectory) -> int | None:
    """The turn that a retry should start from, None if the environment cannot tell."""
    left = remaining_after(env, trajectory)
    return None if left is None else pivot_of(left)


def lesson_report(env: TextEnv, trajectory: Trajectory, *, at_start: bool = False) -> Report | None:
    """A report with the pivot of hindsight and the environment's words, which use only what the player read.

    A win counts as inefficient if a turn lengthened the way and it took `MIN_EXCESS` turns more than needed, and twice
    as many. `at_start`: the report is about the first turn, whatever the pivot. None if the environment cannot tell
    distances. Raises `EnvError` if it has no lessons.
    """
    left = remaining_after(env, trajectory)
    if left is None:
        return None
    pivot = 0 if at_start else pivot_of(left)
    has_setback = left[pivot + 1] > left[pivot] and not at_start
    observation, steps = read_steps(env, trajectory)
    lesson = env.lesson(observation, steps, pivot if has_setback else None)
    if trajectory.won and not (has_setback and len(steps) >= max(left[0] + MIN_EXCESS, 2 * left[0])):
        return Report(lesson.summary, None, Outcome.SUCCESS, None, None)
    outcome = Outcome.SUCCESS_BUT_INEFFICIENT if trajectory.won else Outcome.FAILURE
    return Report(lesson.summary, lesson.cause, outcome, lesson.suggestion, pivot)


def read_steps(env: TextEnv, trajectory: Trajectory) -> tuple[str, list[tuple[str, str]]]:
    """What the environment says to the episode's actions: the first observation and (action, observation) of turns."""
    first, _ = env.reset(options={"task_id": trajectory.task_id})
    steps: list[tuple[str, str]] = []
    for turn in trajectory.turns:
        action = turn.info["action"]
        steps.append((action, env.step(action)[0] if action else ""))
    return first, steps
