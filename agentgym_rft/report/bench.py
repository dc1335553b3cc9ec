"""The curve of a run: the success of each checkpoint on a panel, with k samples for each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from rich import box
from rich.table import Table

from agentgym_rft.report.intervals import bootstrap_mean
from agentgym_rft.report.tables import percent

Point = dict[str, Any]


def point(step: int, summary: Mapping[str, Any]) -> Point:
    """Return a checkpoint's row of the curve, from the summary of its evaluation."""
    return {
        "step": step,
        "num_tasks": summary["num_tasks"],
        "num_errors": summary["num_errors"],
        "samples": summary["samples"],
        "success": over_samples(summary["tasks"], "success"),
        "score": over_samples(summary["tasks"], "score"),
    }


def over_samples(tasks: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    """Return mean, std, best and worst of k samples, each first within a task and then averaged over tasks.

    `std` is the population's over a task's samples. Samples that ended with an error are left out, and tasks without
    any other. Each has a 95 % bootstrap interval over tasks. None without a task.
    """
    values = [[float(row[key]) for row in task.get("samples", [task]) if row[key] is not None] for task in tasks]
    known = [samples for samples in values if samples]
    if not known:
        return None
    reduced: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "std": pstdev, "best": max, "worst": min}
    result: dict[str, Any] = {}
    for name, reduce in reduced.items():
        each = [reduce(samples) for samples in known]
        result[name] = fmean(each)
        result[f"{name}_ci95"] = list(bootstrap_mean(each))
    return result


def bench_table(points: Sequence[Point]) -> Table:
    """Return a row a checkpoint: success with its intervals."""
    samples = points[0]["samples"] if points else 1
    table = Table(box=box.SIMPLE_HEAD)
    headings = ("step", "tasks", "errors", "mean", "95 % interval", "std", f"best@{samples}", f"worst@{samples}")
    for heading in (*headings, "score"):
        table.add_column(heading, justify="right")
    for row in points:
        success, score = row["success"], row["score"]
        sizes = [str(row["step"]), str(row["num_tasks"]), str(row["num_errors"])]
        if success is None:
            table.add_row(*sizes)
            continue
        low, high = success["mean_ci95"]
        rates = [percent(success["mean"]), f"{100 * low:.1f} - {100 * high:.1f}", f"{success['std']:.3f}"]
        rates += [percent(success["best"]), percent(success["worst"])]
        table.add_row(*sizes, *rates, f"{score['mean']:.3f}")
    return table
