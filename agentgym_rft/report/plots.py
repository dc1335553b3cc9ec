"""Plots as PNG files (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import Row, column

WINDOW = 7


def learning_curves(
    runs: Mapping[str, list[Row]],
    path: Path,
    *,
    key: str = "episode/success",
    title: str = "",
    evaluations: Mapping[str, list[tuple[int, float]]] | None = None,
) -> None:
    """Draw one metric of some runs over their steps into a PNG file.

    The thin line is the metric itself, the thick one its mean over `WINDOW` steps around.

    Args:
        runs: metrics rows by the run's name in the legend.
        path: the file to write.
        key: the metric; rates of success are drawn on a fixed scale from 0 to 1.
        evaluations: steps and values to mark, by run.
    Raises:
        ConfigError: matplotlib is not installed, or no run has the metric.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("Plots need matplotlib: pip install 'agentgym-rft[plot]'.") from error
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, rows in runs.items():
        steps, values = column(rows, key)
        if not steps:
            continue
        (line,) = axes.plot(steps, moving_mean(values, WINDOW), label=name, linewidth=2)
        axes.plot(steps, values, color=line.get_color(), linewidth=0.7, alpha=0.35)
        marked = (evaluations or {}).get(name, [])
        label = "evaluation" if marked and name == next(iter(runs)) else None
        axes.plot([s for s, _ in marked], [v for _, v in marked], "D", color=line.get_color(), label=label)
    if not axes.lines:
        raise ConfigError(f"No run has a metric called '{key}'.")
    if key.endswith("success"):
        axes.set_ylim(0, 1)
    axes.set(xlabel="step", ylabel=key, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="png")


def moving_mean(values: list[float], window: int) -> list[float]:
    """Return mean over up to `window` values around each, fewer at the ends."""
    half = window // 2
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
