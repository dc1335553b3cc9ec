"""The summary of an evaluation: success, score and turns, by task type and by task, with intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from agentgym_rft import __version__
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.panels import Panel
from agentgym_rft.errors import DataError
from agentgym_rft.report.intervals import wilson
from agentgym_rft.store.files import write_atomically

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What a result depends on besides the panel."""

    policy: str
    seed: int
    temperature: float
    max_steps: int


def summarise(trajectories: Sequence[Trajectory], panel: Panel, settings: EvaluationSettings) -> Summary:
    """The evaluation as a JSON object.

    Rates and means are over the tasks that ended without an error; errored ones are counted in `num_errors`, their rows
    have a `stop_reason` and an `error`, and `success` is null if no task is left.

    Args:
        trajectories: one for each task of the panel, in any order.
    Raises:
        ValueError: they are not one for each task.
    """
    by_task = {trajectory.task_id: trajectory for trajectory in trajectories}
    if len(trajectories) != len(panel) or set(by_task) != set(panel.task_ids):
        raise ValueError(f"{len(trajectories)} trajectories do not cover the panel's {len(panel)} tasks once each.")
    ordered = [by_task[task_id] for task_id in panel.task_ids]
    return {
        "env": panel.env_id,
        "split": panel.split,
        "panel_hash": panel.panel_hash,
        "policy": settings.policy,
        **_totals(ordered),
        "seed": settings.seed,
        "temperature": settings.temperature,
        "max_steps": settings.max_steps,
        "version": __version__,
        "errors": dict(Counter(t.stop_reason.value for t in ordered if t.is_error)),
        "by_type": _by_type(ordered),
        "tasks": [_task_row(trajectory) for trajectory in ordered],
    }


def _totals(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    valid = [t for t in trajectories if not t.is_error]
    num_won = sum(t.won for t in valid)
    return {
        "num_tasks": len(trajectories),
        "num_errors": len(trajectories) - len(valid),
        "num_won": num_won,
        "success": num_won / len(valid) if valid else None,
        "success_ci95": list(wilson(num_won, len(valid))),
        "score": fmean(_score(t) for t in valid) if valid else None,
        "mean_turns": fmean(len(t.turns) for t in valid) if valid else None,
    }


def _by_type(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, Any]]:
    types = sorted({_task_type(t) for t in trajectories} - {""})
    return {name: _totals([t for t in trajectories if _task_type(t) == name]) for name in types}


def _task_row(trajectory: Trajectory) -> dict[str, Any]:
    row = {
        "task_id": trajectory.task_id,
        "task_type": _task_type(trajectory),
        "success": None if trajectory.is_error else trajectory.won,
        "score": None if trajectory.is_error else _score(trajectory),
        "turns": len(trajectory.turns),
        "stop_reason": trajectory.stop_reason.value,
    }
    return row | ({"error": trajectory.info.get("error")} if trajectory.is_error else {})


def _task_type(trajectory: Trajectory) -> str:
    return str(trajectory.info.get("task_type", ""))


def _score(trajectory: Trajectory) -> float:
    return float(trajectory.info.get("score", float(trajectory.won)))


def write_evaluation(run_dir: Path, step: int, summary: Summary) -> Path:
    """Save the evaluation after a step in a run directory, where the report looks for it. Returns its path."""
    path = run_dir / "evaluations" / f"step_{step:06d}_{summary['split']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_summary(path, summary)
    return path


def write_summary(path: Path, summary: Summary) -> None:
    """Write a summary as indented JSON, in one piece."""
    write_atomically(path, (json.dumps(summary, indent=1) + "\n").encode())


def read_evaluations(run_dir: Path) -> list[tuple[int, Summary]]:
    """Steps and summaries of a run's evaluations, by step. Raises `DataError` for a damaged file."""
    evaluations = []
    for path in sorted((run_dir / "evaluations").glob("step_*.json")):
        try:
            evaluations.append((int(path.stem.split("_")[1]), json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise DataError(f"'{path}' is no evaluation: {error}.") from error
    return evaluations
