"""Finds where an episode went wrong by the environment's own count of the steps that are left.

The actions are replayed in an environment of the same task, which must tell the length of the shortest completion
(`TextEnv.remaining`). No model is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from agentgym_rft.agents.reflect import Outcome, Report
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.base import Lesson, TextEnv

MIN_EXCESS = 8  # a win is inefficient from so many turns beyond the shortest win


def remaining_after(env: TextEnv, trajectory: Trajectory) -> list[int] | None:
    """Return the shortest completion at the start and after every turn: one number more than there are turns.

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
    """Return the first turn after which the shortest completion is longer than before it; 0 if there is none.

    Example: [5, 5, 4, 5, 5] -> 2, because the third action led from 4 to 5 commands.
    """
    return next((k for k in range(len(left) - 1) if left[k + 1] > left[k]), 0)


def plain_lesson(observation: str, steps: Sequence[tuple[str, str]], pivot: int | None) -> Lesson:
    """Return the lesson for an environment that gives none of its own: it can only name the pivot."""
    if pivot is None:
        return Lesson("No step led away from the goal.", "Nothing led to the goal.", "Take the shortest way.")
    return Lesson(f"Step {pivot} led away from the goal.", f"Step {pivot} was wrong.", "Take another action there.")


def team_lesson(agents: Sequence[str], pivot: int | None) -> Lesson:
    """Return the lesson of an episode of several agents: its pivot and whose turn that was.

    Args:
        agents: who took each turn.
        pivot: a turn; None: no turn led away.
    """
    if pivot is None:
        return plain_lesson("", (), None)
    agent = agents[pivot]
    return Lesson(
        f"Step {pivot}, a turn of {agent}, led away from the goal.",
        f"Step {pivot} of {agent} was wrong.",
        f"{agent} takes another action there.",
    )


def report_of(
    left: Sequence[int], words: Callable[[int | None], Lesson], *, won: bool, at_start: bool = False
) -> Report:
    """Return the report of the hindsight rule, in the words of a lesson.

    The pivot is the first turn after which the shortest completion grew; an episode where it never grew is retried from
    the start. A win counts as inefficient if a turn lengthened the way and it took `MIN_EXCESS` turns more than needed,
    and twice as many.

    Args:
        left: the shortest completion at the start and after every turn.
        words: the lesson about a turn, or about the start (None).
        at_start: the report is about the first turn, whatever the pivot.
    """
    pivot = 0 if at_start else pivot_of(left)
    has_setback = left[pivot + 1] > left[pivot] and not at_start
    lesson = words(pivot if has_setback else None)
    num_turns = len(left) - 1
    if won and not (has_setback and num_turns >= max(left[0] + MIN_EXCESS, 2 * left[0])):
        return Report(lesson.summary, None, Outcome.SUCCESS, None, None)
    outcome = Outcome.SUCCESS_BUT_INEFFICIENT if won else Outcome.FAILURE
    return Report(lesson.summary, lesson.cause, outcome, lesson.suggestion, pivot)


def lesson_report(env: TextEnv, trajectory: Trajectory, *, at_start: bool = False) -> Report | None:
    """Return `report_of` a trajectory that is replayed in its environment, in the environment's words.

    None if the environment cannot tell distances. Raises `EnvError` if it has no lessons.
    """
    left = remaining_after(env, trajectory)
    if left is None:
        return None
    observation, steps = read_steps(env, trajectory)
    return report_of(left, partial(env.lesson, observation, steps), won=trajectory.won, at_start=at_start)


def with_goal(observation: str, info: Mapping[str, Any]) -> str:
    """Return the first observation of an episode, and the goal where the environment keeps it apart from its texts."""
    goal = str(info.get("goal", ""))
    return observation if goal in observation else f"{observation}\nGoal: {goal}"


def read_steps(env: TextEnv, trajectory: Trajectory) -> tuple[str, list[tuple[str, str]]]:
    """Replay an episode's actions. Returns the first observation, and (action, observation) of each turn."""
    first, info = env.reset(options={"task_id": trajectory.task_id})
    steps: list[tuple[str, str]] = []
    for turn in trajectory.turns:
        action = turn.info["action"]
        steps.append((action, env.step(action)[0] if action else ""))
    return with_goal(first, info), steps
