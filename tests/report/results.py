"""Results of evaluations, made from outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentgym_rft.core import StopReason, Trajectory, Turn
from agentgym_rft.envs.panels import Panel
from agentgym_rft.report.evaluation import EvaluationSettings, Summary, summarise

Outcome = bool | None  # None: an error


def trajectory(task_id: str, outcome: Outcome, sample: int = 0) -> Trajectory:
    """An episode of two turns, the second one invalid."""
    reason = {True: StopReason.SUCCESS, False: StopReason.FAILURE, None: StopReason.ENV_ERROR}[outcome]
    turns = (
        Turn((1, 2, 3), (4, 5), (-0.5, -0.1), info={"invalid_action": ""}),
        Turn((6,), (7,), (-0.5,), info={"invalid_action": "empty"}),
    )
    info = {"score": float(bool(outcome)), "task_type": "heat"}
    if outcome is None:
        info["error"] = {"type": "KeyError", "message": "mug", "turn": 2}
    return Trajectory(task_id, task_id, f"{task_id}#{sample}", turns, reason, info=info)


def result(
    policy: str,
    outcomes: Sequence[Outcome | Sequence[Outcome]],
    *,
    panel: str = "ab" * 32,
    env: str = "tests/Env-v0",
    samples: int = 1,
    options: Mapping[str, Any] | None = None,
    **settings,
) -> Summary:
    """The summary of a policy with these outcomes, a task each; with several samples, a list for each task."""
    ids = tuple(f"task-{number}" for number in range(len(outcomes)))
    by_task = [outcome if isinstance(outcome, list) else [outcome] for outcome in outcomes]
    played = [trajectory(t, o, n) for t, task in zip(ids, by_task, strict=True) for n, o in enumerate(task)]
    given = {"seed": 0, "temperature": 0.0, "max_steps": 50, "card": "plain@0", **settings}
    settings = EvaluationSettings(policy=policy, samples=samples, **given)
    return summarise(played, Panel(env, "test", ids, panel, options=options or {}), settings, wall_time_s=1.5)
