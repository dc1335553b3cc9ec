"""`comparison.html`: success and entropy of several runs on the same axes, and the predicted change of entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import StatisticsError, correlation, fmean

from agentgym_rft import __version__
from agentgym_rft.errors import DataError
from agentgym_rft.report.evaluation import Summary, read_evaluations
from agentgym_rft.report.metrics import Row, column, read_metrics
from agentgym_rft.report.pages import page_template
from agentgym_rft.report.plots import WINDOW, moving_mean
from agentgym_rft.report.svg import Series, colour, line_chart, scatter_chart
from agentgym_rft.store.files import write_atomically

MEASURED = "entropy/measured_delta"
BY_WEIGHTS, BY_LOGITS = "entropy/predicted_delta", "entropy/predicted_delta_logit"
SCATTER_TITLE = "Change of the probe's entropy (nats): predicted (across), measured (up)"

# Charts of metrics as they are, after those of success: title and metric.
_CHARTS = (
    ("Entropy (nats)", "entropy/mean"),
    ("Entropy of the probe (nats)", "entropy/probe"),
    ("Measured change of the probe's entropy (nats)", MEASURED),
    ("Change of entropy predicted on the logits (nats, step size 1)", BY_LOGITS),
)


@dataclass(frozen=True, slots=True)
class RunData:
    """The data of a run that a comparison needs."""

    name: str
    rows: list[Row]
    evaluations: Sequence[tuple[int, Summary]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's row in the table; None for what was not recorded. Means are over the last `WINDOW` steps."""

    name: str
    colour: str
    num_steps: int
    success: float | None
    evaluation: Summary | None
    entropy: float | None
    r_weights: float | None
    r_logits: float | None


def write_comparison(run_dirs: Sequence[Path], path: Path) -> list[Outcome]:
    """Write the page about some runs to `path` and return its table.

    Raises:
        DataError: a folder is no run, or one of its files is damaged.
    """
    runs = [_read(folder, name) for folder, name in zip(run_dirs, _names(run_dirs), strict=True)]
    outcomes = [outcome(run, number) for number, run in enumerate(runs)]
    page = page_template("comparison.html.j2").render(
        version=__version__, outcomes=outcomes, charts=comparison_charts(runs), window=WINDOW
    )
    write_atomically(path, page.encode("utf-8", errors="backslashreplace"))
    return outcomes


def comparison_charts(runs: Sequence[RunData]) -> list[str]:
    """Return SVG charts with a colour a run, without legends; those of which no run has a point are left out."""
    success = [_smooth(run, "episode/success") for run in runs]
    drawn = [line_chart(f"Success in training (mean over {WINDOW} steps)", success, (0.0, 1.0), legend=False)]
    for split in sorted({summary["split"] for run in runs for _, summary in run.evaluations}):
        lines = [evaluation_series(run.name, run.evaluations, split) for run in runs]
        drawn.append(line_chart(f"Success in evaluations, {split}", lines, (0.0, 1.0), legend=False))
    for title, key in _CHARTS:
        drawn.append(line_chart(title, [Series(run.name, *column(run.rows, key)) for run in runs], legend=False))
    points = [Series(run.name, *paired(run.rows, BY_WEIGHTS, MEASURED)) for run in runs]
    drawn.append(scatter_chart(SCATTER_TITLE, points, legend=False))
    points = [Series(run.name, *paired(run.rows, BY_LOGITS, MEASURED)) for run in runs]
    title = "Change of entropy: predicted on the logits, step size 1 (across), measured (up)"
    drawn.append(scatter_chart(title, points, diagonal=False, legend=False))
    return [chart for chart in drawn if chart]


def evaluation_series(name: str, evaluations: Sequence[tuple[int, Summary]], split: str) -> Series:
    """Return success with its 95 % intervals in the evaluations on a split that have any."""
    points = [(step, s) for step, s in evaluations if s["split"] == split and s["success"] is not None]
    steps, rates = [float(step) for step, _ in points], [float(s["success"]) for _, s in points]
    return Series(name, steps, rates, [tuple(s["success_ci95"]) for _, s in points])


def outcome(run: RunData, number: int) -> Outcome:
    """Return the row of a run in the table; `number` chooses its colour."""
    return Outcome(
        name=run.name,
        colour=colour(number),
        num_steps=run.rows[-1]["step"] if run.rows else 0,
        success=_last_mean(run.rows, "episode/success"),
        evaluation=run.evaluations[-1][1] if run.evaluations else None,
        entropy=_last_mean(run.rows, "entropy/mean"),
        r_weights=pearson(*paired(run.rows, BY_WEIGHTS, MEASURED)),
        r_logits=pearson(*paired(run.rows, BY_LOGITS, MEASURED)),
    )


def paired(rows: list[Row], across: str, up: str) -> tuple[list[float], list[float]]:
    """Return two metrics in the steps that recorded both as numbers."""
    by_step: tuple[Mapping[float, float], ...] = tuple(
        dict(zip(*column(rows, key), strict=True)) for key in (across, up)
    )
    steps = [step for step in by_step[0] if step in by_step[1]]
    return [by_step[0][step] for step in steps], [by_step[1][step] for step in steps]


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return pearson's correlation; None where it is undefined: fewer than two points, or all equal."""
    try:
        return correlation(xs, ys)
    except StatisticsError:
        return None


def _read(folder: Path, name: str) -> RunData:
    if not (folder / "config.yaml").is_file():
        raise DataError(f"'{folder}' is no run directory: it has no config.yaml.")
    return RunData(name, read_metrics(folder / "metrics.jsonl"), read_evaluations(folder))


def _names(run_dirs: Sequence[Path]) -> list[str]:
    """Return folder names, or the given paths where two are the same."""
    names = [folder.resolve().name for folder in run_dirs]
    return names if len(set(names)) == len(names) else [str(folder) for folder in run_dirs]


def _smooth(run: RunData, key: str) -> Series:
    steps, values = column(run.rows, key)
    return Series(run.name, steps, moving_mean(values, WINDOW))


def _last_mean(rows: list[Row], key: str) -> float | None:
    _, values = column(rows, key)
    return fmean(values[-WINDOW:]) if values else None
