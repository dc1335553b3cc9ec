"""Plots as PNG files (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentgym_rft.errors import ConfigError
from agentgym_rft.report.metrics import Row, column


def learning_curves(
    runs: Mapping[str, list[Row]], path: Path, *, key: str = "episode/success", title: str = ""
) -> None:
    """Draw one metric of some runs over their steps into a PNG file.

    Args:
        runs: metrics rows by the run's name in the legend.
        path: the file to write.
        key: the metric; rates of success are drawn on a fixed scale from 0 to 1.
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
        if steps:
            axes.plot(steps, values, label=name, linewidth=1.5, marker="o" if len(steps) < 20 else None, markersize=3)
    if not axes.lines:
        raise ConfigError(f"No run has a metric called '{key}'.")
    if key.endswith("success"):
        axes.set_ylim(0, 1)
    axes.set(xlabel="step", ylabel=key, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="png")
