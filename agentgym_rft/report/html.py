"""`report.html` of a run: curves, evaluations, configuration and a few trajectories, in one file without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from agentgym_rft import __version__
from agentgym_rft.core import Trajectory
from agentgym_rft.errors import DataError
from agentgym_rft.report.comparison import BY_WEIGHTS, MEASURED, SCATTER_TITLE, evaluation_series, paired
from agentgym_rft.report.evaluation import Summary, read_evaluations
from agentgym_rft.report.metrics import Row, column, read_metrics
from agentgym_rft.report.pages import page_template
from agentgym_rft.report.svg import Series, line_chart, scatter_chart
from agentgym_rft.store.files import write_atomically
from agentgym_rft.store.trajectories import SUFFIX, read_trajectories

# Charts after that of success: title, and the metrics on it.
_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Return", ("episode/return",)),
    ("Entropy (nats)", ("entropy/mean", "entropy/probe")),
    ("Change of the probe's entropy (nats)", (BY_WEIGHTS, MEASURED)),
    ("Turns an episode", ("episode/turns",)),
    ("Loss", ("loss/total",)),
    ("Approximate KL (nats)", ("kl/approx",)),
    ("Gradient norm", ("grad/norm",)),
    ("Share of clipped tokens", ("ratio/clip_fraction",)),
    ("Share of invalid actions", ("episode/invalid_actions",)),
    ("Seconds a step", ("time/rollout_s", "time/update_s")),
)


def write_report(run_dir: Path, num_trajectories: int = 6, out: Path | None = None) -> Path:
    """Write the report of a run, by default `report.html` in its directory, and return its path.

    The trajectories shown are those of the last recorded step, won and lost ones in turn.

    Raises:
        DataError: the folder is no run, or one of its files is damaged.
    """
    if not (run_dir / "config.yaml").is_file():
        raise DataError(f"'{run_dir}' is no run directory: it has no config.yaml.")
    rows, evaluations = read_metrics(run_dir / "metrics.jsonl"), read_evaluations(run_dir)
    page = page_template("report.html.j2").render(
        name=run_dir.resolve().name,
        version=__version__,
        charts=charts(rows, evaluations),
        last=_last_row(rows),
        evaluations=evaluations,
        trajectories=list(islice(_last_trajectories(run_dir / "trajectories"), num_trajectories)),
        config=(run_dir / "config.yaml").read_text(encoding="utf-8"),
    )
    path = out or run_dir / "report.html"
    write_atomically(path, page.encode("utf-8", errors="backslashreplace"))
    return path


def charts(rows: list[Row], evaluations: Sequence[tuple[int, Summary]]) -> list[str]:
    """SVG charts of a run: success in training and in evaluations with intervals, then whatever else was recorded."""
    success = [Series("training", *column(rows, "episode/success"))]
    for split in sorted({summary["split"] for _, summary in evaluations}):
        success.append(evaluation_series(split, evaluations, split))
    drawn = [line_chart("Success", success, y_range=(0.0, 1.0))]
    for title, keys in _CHARTS:
        drawn.append(line_chart(title, [Series(key, *column(rows, key)) for key in keys]))
    changes = Series("steps", *paired(rows, BY_WEIGHTS, MEASURED))
    drawn.append(scatter_chart(SCATTER_TITLE, [changes], legend=False))
    return [chart for chart in drawn if chart]


def _last_row(rows: list[Row]) -> dict[str, str]:
    """Return the last row's numbers as text."""
    if not rows:
        return {}
    return {key: f"{value:.5g}" for key, value in rows[-1].items() if isinstance(value, (int, float))}


def _last_trajectories(folder: Path) -> Iterator[Trajectory]:
    """Yield won and lost trajectories of the last step in turn, then the rest."""
    files = sorted(folder.glob(f"step_*{SUFFIX}"))
    if not files:
        return
    trajectories = list(read_trajectories(files[-1]))
    won, lost = [t for t in trajectories if t.won], [t for t in trajectories if not t.won]
    for index in range(max(len(won), len(lost))):
        yield from won[index : index + 1]
        yield from lost[index : index + 1]
