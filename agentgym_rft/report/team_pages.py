"""Shows cross-play results as tables of a leaderboard page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentgym_rft.errors import DataError
from agentgym_rft.json_text import read_json
from agentgym_rft.report.leaderboard_pages import Table
from agentgym_rft.report.markdown import code, plain
from agentgym_rft.report.result_types import CROSSPLAY
from agentgym_rft.report.tables import percent

TEAM_INTRODUCTION = (
    "Several agents. In the matrix the policy of a row plays the first side, that of a column the other, all pairs on "
    "the same tasks with the same seeds; a cell is the mean return of the row's side, with its 95 % bootstrap interval "
    "over tasks. Ratings are openskill's (Plackett-Luce, mu - 3 sigma), from matches of two games with the places "
    "exchanged, in fixed orders. Episodes that ended with an error are in no mean."
)


def read_crossplay(path: Path) -> dict[str, Any]:
    """Return the result that `agentgym crossplay --out` wrote. Raises `DataError` for anything else."""
    summary: dict[str, Any] = read_json(path, CROSSPLAY, "cross-play")
    names, cells = summary["policies"], {(cell["row"], cell["column"]) for cell in summary["cells"]}
    if not cells >= {(row, column) for row in names for column in names} or not summary["totals"].keys() >= set(names):
        raise DataError(f"'{path}' is no cross-play: it lacks games of its policies.")
    return summary


def crossplay_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return the policies in order of their rating or mean score, then the matrix."""
    options = plain(", ".join(f"{name}={value}" for name, value in summary["options"].items()))
    note = (
        f"{summary['num_tasks']} tasks of {code(summary['split'])}, panel {code(summary['panel_hash'][:16])}, "
        f"{summary['samples']} episodes a pair and task, at most {summary['max_steps']} turns"
        + (f", options {options}" if options else "")
        + "."
    )
    return [_ranking(summary, note), _matrix(summary)]


def _ranking(summary: Mapping[str, Any], note: str) -> Table:
    ratings = {row["policy"]: row for row in summary["ratings"] or ()}
    totals = summary["totals"]
    names = sorted(
        summary["policies"],
        key=lambda name: (-ratings[name]["ordinal"] if name in ratings else 0.0, -(totals[name]["score"] or 0.0)),
    )
    numbers = list(dict.fromkeys(name for found in summary["exact"].values() for name in found.get("values", ())))
    headings = (
        "#",
        "policy",
        "rating",
        "sigma",
        "mean score",
        "95 % interval",
        "mean return",
        "team success",
        *numbers,
    )
    rows = []
    for place, name in enumerate(names, start=1):
        rating, total = ratings.get(name), totals[name]
        alone = next(cell for cell in summary["cells"] if cell["row"] == cell["column"] == name)
        values = summary["exact"].get(name, {}).get("values", {})
        rows.append(
            (
                str(place),
                name,
                _number(rating and rating["ordinal"], "{:.2f}"),
                _number(rating and rating["sigma"], "{:.2f}"),
                _number(total["score"], "{:.3f}"),
                _bounds(total["score_ci95"]),
                _number(total["return"], "{:+.3f}"),
                percent(alone["team"]["success"]),
                *(_number(values.get(number), "{:.4f}") for number in numbers),
            )
        )
    left_out = f" {summary['ratings_left_out']}" if summary.get("ratings_left_out") else ""
    what = " Means are over the games with the others; team success is with itself."
    return Table(f"{summary['env']}, {summary['split']}", note + what + left_out, headings, tuple(rows))


def _matrix(summary: Mapping[str, Any]) -> Table:
    names: Sequence[str] = summary["policies"]
    cells = {(cell["row"], cell["column"]): cell["row_side"] for cell in summary["cells"]}
    rows = tuple((row, *(_cell(cells[row, column]) for column in names)) for row in names)
    sides = (", ".join(summary["seats"][side]) for side in ("row", "column"))
    note = "Rows play {}, columns play {}.".format(*sides)
    return Table(f"{summary['env']}: cross-play", note, ("", *names), rows)


def _cell(side: Mapping[str, Any]) -> str:
    return "-" if side["return"] is None else f"{side['return']:+.3f} ({_bounds(side['return_ci95'])})"


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
