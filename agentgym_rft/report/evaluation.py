"""The summary of an evaluation: success, score and turns, by task type and by task, with intervals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from agentgym_rft import __version__
from agentgym_rft.core import Trajectory
from agentgym_rft.envs.panels import Panel
from agentgym_rft.errors import DataError
from agentgym_rft.json_text import read_json
from agentgym_rft.report.intervals import bootstrap_mean, pass_at_k, wilson
from agentgym_rft.report.result_types import EVALUATION
from agentgym_rft.store.files import file_name, write_atomically

Summary = dict[str, Any]

# Keys of `protocol`: two results can be compared only if they agree on all of them.
PROTOCOL = ("env", "options", "split", "panel_hash", "card", "max_steps", "temperature", "samples")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The settings that a result depends on, besides the panel.

    `card` and `temperature` are None for a player without a model.
    """

    policy: str
    seed: int
    temperature: float | None
    max_steps: int
    samples: int = 1
    card: str | None = None


def protocol(panel: Panel, settings: EvaluationSettings) -> dict[str, Any]:
    """Return the settings that another result must share to be comparable."""
    return {
        "env": panel.env_id,
        "options": dict(panel.options),
        "split": panel.split,
        "panel_hash": panel.panel_hash,
        "card": settings.card,
        "max_steps": settings.max_steps,
        "temperature": settings.temperature,
        "samples": settings.samples,
    }


def summarise(
    trajectories: Sequence[Trajectory], panel: Panel, settings: EvaluationSettings, wall_time_s: float | None = None
) -> Summary:
    """Return the evaluation as a JSON object.

    Rates and means are over the episodes that ended without an error, rates first within each task; errored ones are
    counted in `num_errors`, their rows have a `stop_reason` and an `error`, and `success` is null if no task is left.

    Args:
        trajectories: `settings.samples` for each task of the panel, in any order.
        wall_time_s: how long the episodes took in all.
    Raises:
        ValueError: they are not so many for each task.
    """
    tasks = _by_task(trajectories, panel, settings.samples)
    return {
        "env": panel.env_id,
        "split": panel.split,
        "panel_hash": panel.panel_hash,
        "policy": settings.policy,
        **_totals(tasks),
        "seed": settings.seed,
        "temperature": settings.temperature,
        "max_steps": settings.max_steps,
        "samples": settings.samples,
        "wall_time_s": wall_time_s,
        "held_out_of": panel.held_out_of,
        "notes": [panel.unchecked] if panel.unchecked else [],
        "version": __version__,
        "protocol": protocol(panel, settings),
        **seats_block(tasks),
        "errors": dict(Counter(t.stop_reason.value for task in tasks for t in task if t.is_error)),
        "by_type": _by_type(tasks),
        "tasks": [_task_row(task) for task in tasks],
    }


Task = Sequence[Trajectory]  # the samples of one task


def _by_task(trajectories: Sequence[Trajectory], panel: Panel, samples: int) -> list[Task]:
    by_task: dict[str, list[Trajectory]] = {task_id: [] for task_id in panel.task_ids}
    for trajectory in trajectories:
        by_task.setdefault(trajectory.task_id, []).append(trajectory)
    if len(by_task) != len(panel) or any(len(task) != samples for task in by_task.values()):
        times = "once" if samples == 1 else f"{samples} times"
        raise ValueError(f"{len(trajectories)} trajectories do not cover the panel's {len(panel)} tasks {times} each.")
    return [by_task[task_id] for task_id in panel.task_ids]


def _totals(tasks: Sequence[Task]) -> dict[str, Any]:
    episodes = [t for task in tasks for t in task]
    valid = [t for t in episodes if not t.is_error]
    rates = _task_means(tasks, lambda t: float(t.won))
    num_turns = sum(len(t.turns) for t in valid)
    invalid = Counter(str(turn.info.get("invalid_action") or "") for t in valid for turn in t.turns)
    unparsed = {reason: invalid[reason] for reason in sorted(invalid) if reason not in ("", "refused")}
    return {
        "num_tasks": len(tasks),
        "num_episodes": len(episodes),
        "num_errors": len(episodes) - len(valid),
        "num_won": sum(t.won for t in valid),
        "success": _mean(rates),
        "success_ci95": list(wilson(sum(rates), len(rates))),
        "pass_at_k": _pass_at(tasks),
        "score": _mean(_task_means(tasks, _score)),
        "mean_turns": _mean([len(t.turns) for t in valid]),
        "invalid_actions": (num_turns - invalid[""]) / num_turns if num_turns else None,
        "unparsed": unparsed,
        "sampled_tokens": _mean_known([_sampled(t) for t in valid]),
        "context_tokens": _mean_known([_context(t) for t in valid]),
        **mean_measures(valid),
    }


def mean_measures(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """Return, under `measures`, the means of what the environment measures beside the score; nothing where it does
    not.
    """
    found = [trajectory.info["measures"] for trajectory in trajectories if "measures" in trajectory.info]
    names = sorted({name for measures in found for name in measures})
    return {"measures": {name: _mean([m[name] for m in found if name in m]) for name in names}} if names else {}


def seats_block(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return `seats` of several agents: role, policy, and the means of each with 95 % intervals; nothing for one
    agent.
    """
    first = next((t for task in tasks for t in task if "seats" in t.info), None)
    return {} if first is None else {"seats": {agent: _seat(agent, tasks) for agent in first.info["seats"]}}


def _seat(agent: str, tasks: Sequence[Task]) -> dict[str, Any]:
    def mean(key: str) -> list[float]:
        return _task_means(tasks, lambda t: float(t.info["seats"][agent][key]))

    shown = next(t.info["seats"][agent] for task in tasks for t in task if not t.is_error)
    won, scores, returns = mean("won"), mean("score"), mean("return")
    return {
        "role": shown["role"],
        "policy": shown["player"],
        "success": _mean(won),
        "success_ci95": list(wilson(sum(won), len(won))),
        "score": _mean(scores),
        "score_ci95": list(bootstrap_mean(scores)),
        "return": _mean(returns),
        "return_ci95": list(bootstrap_mean(returns)),
        "mean_turns": _mean(mean("turns")),
    }


def _pass_at(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """Return pass@k for k = 1, 2, 4, ... and for all samples, over the tasks with at least k valid ones.

    None for one sample.
    """
    samples = max(map(len, tasks))
    counts = [(sum(not t.is_error for t in task), sum(t.won for t in task)) for task in tasks]
    found = {}
    for k in sorted({2**power for power in range(samples.bit_length())} | {samples}) if samples > 1 else ():
        rates = [pass_at_k(n, won, k) for n, won in counts if n >= k]
        if rates:
            interval = list(bootstrap_mean(rates))
            found[str(k)] = {"value": fmean(rates), "ci95": interval, "num_tasks": len(rates)}
    return found


def _task_means(tasks: Sequence[Task], value: Callable[[Trajectory], float]) -> list[float]:
    """Return the mean of each task's valid samples; a task without any is left out."""
    valid = [[value(t) for t in task if not t.is_error] for task in tasks]
    return [fmean(values) for values in valid if values]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _mean_known(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _sampled(trajectory: Trajectory) -> int | None:
    """Return tokens that the policy wrote; None for one without tokens."""
    return _count(turn.info.get("sampled_tokens", len(turn.action_ids) or None) for turn in trajectory.turns)


def _context(trajectory: Trajectory) -> int | None:
    """Return tokens that the policy read, those of a rewritten history again; an endpoint reads all of it every
    turn.
    """
    return _count(turn.info.get("context_tokens", len(turn.context_ids) or None) for turn in trajectory.turns)


def _count(counts: Iterable[int | None]) -> int | None:
    """Return the sum, None where one is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _by_type(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    types = sorted({_task_type(task) for task in tasks} - {""})
    return {name: _totals([task for task in tasks if _task_type(task) == name]) for name in types}


def _task_row(task: Task) -> dict[str, Any]:
    """Return the row of a task: its episode, or means over its samples with a row for each."""
    head = {"task_id": task[0].task_id, "task_type": _task_type(task)}
    if len(task) == 1:
        return head | _episode_row(task[0])
    valid = [trajectory for trajectory in task if not trajectory.is_error]
    return {
        **head,
        "success": _mean([trajectory.won for trajectory in valid]),
        "score": _mean([_score(trajectory) for trajectory in valid]),
        "turns": _mean([len(trajectory.turns) for trajectory in valid]),
        "samples": [_episode_row(trajectory) for trajectory in task],
    }


def _episode_row(trajectory: Trajectory) -> dict[str, Any]:
    row = {
        "success": None if trajectory.is_error else trajectory.won,
        "score": None if trajectory.is_error else _score(trajectory),
        "turns": len(trajectory.turns),
        "invalid_actions": sum(bool(turn.info.get("invalid_action")) for turn in trajectory.turns),
        "sampled_tokens": _sampled(trajectory),
        "context_tokens": _context(trajectory),
        "stop_reason": trajectory.stop_reason.value,
    }
    return row | ({"error": trajectory.info.get("error")} if trajectory.is_error else {})


def _task_type(task: Task) -> str:
    return next((kind for t in task if (kind := str(t.info.get("task_type", "")))), "")


def _score(trajectory: Trajectory) -> float:
    return float(trajectory.info.get("score", float(trajectory.won)))


def write_evaluation(run_dir: Path, step: int, summary: Summary) -> Path:
    """Save the evaluation after a step in a run directory, where the report looks for it. Returns its path."""
    path = run_dir / "evaluations" / f"step_{step:06d}_{file_name(summary['split'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_summary(path, summary)
    return path


def write_summary(path: Path, summary: Summary) -> None:
    """Write a summary as indented JSON, in one piece."""
    write_atomically(path, (json.dumps(summary, indent=1) + "\n").encode())


def read_evaluations(run_dir: Path) -> list[tuple[int, Summary]]:
    """Return steps and summaries of a run's evaluations, by step. Raises `DataError` for a damaged file."""
    evaluations = []
    for path in sorted((run_dir / "evaluations").glob("step_*.json")):
        try:
            step = int(path.stem.split("_")[1])
        except ValueError as error:
            raise DataError(f"'{path}' is no evaluation: its name has no step.") from error
        evaluations.append((step, read_summary(path)))
    return evaluations


def read_summary(path: Path) -> Summary:
    """Return the summary in a file. Raises `DataError` for one that is missing, damaged or something else."""
    summary: Summary = read_json(path, EVALUATION, "result")
    if len(summary["tasks"]) != summary["num_tasks"]:
        raise DataError(f"'{path}' is no result: of {summary['num_tasks']} tasks it has {len(summary['tasks'])}.")
    return summary
