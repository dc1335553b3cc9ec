"""The summary of a cross-play: a matrix with intervals, ratings, and exact values where the game's theory is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentgym_rft import __version__
from agentgym_rft.core import Trajectory
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.heatmap import heat_map
from agentgym_rft.report.intervals import bootstrap_mean, wilson
from agentgym_rft.report.ratings import Match, rate
from agentgym_rft.report.tables import exact_line, percent

Games = Mapping[tuple[str, str], Sequence[Trajectory]]  # by the names of row and column


class Sides(Protocol):
    """The agents that a row's policy plays, and those that a column's policy plays."""

    @property
    def row(self) -> tuple[str, ...]: ...

    @property
    def column(self) -> tuple[str, ...]: ...


def summarise_crossplay(games: Games, sides: Sides, samples: int) -> dict[str, Any]:
    """Return cells, ratings and totals as a JSON object. Means are over the episodes without an error.

    Args:
        games: for each pair the same tasks in the same order, `samples` episodes of a task after each other.
    """
    names = list(dict.fromkeys(row for row, _ in games))
    return {
        "version": __version__,
        "seats": {"row": list(sides.row), "column": list(sides.column)},
        "policies": names,
        "cells": [_cell(pair, played, sides, samples) for pair, played in games.items()],
        "totals": {name: _total(name, games, sides, samples) for name in names},
        **_ratings(games, sides, samples),
    }


def _cell(pair: tuple[str, str], played: Sequence[Trajectory], sides: Sides, samples: int) -> dict[str, Any]:
    """One pair: what its two sides got, and the team of both."""
    tasks = _by_task(played, samples)
    won = _means(tasks, lambda t: float(t.won))
    return {
        "row": pair[0],
        "column": pair[1],
        "num_episodes": len(played),
        "num_errors": sum(t.is_error for t in played),
        "row_side": _side(tasks, sides.row),
        "column_side": _side(tasks, sides.column),
        "team": {"success": _mean(won), "success_ci95": list(wilson(sum(won), len(won)))},
    }


def _side(tasks: Sequence[Sequence[Trajectory]], agents: Sequence[str]) -> dict[str, Any]:
    def means(key: str) -> list[float]:
        return _means(tasks, lambda t: _of(t, agents, key))

    return {
        **_interval("success", means("won")),
        **_interval("score", means("score")),
        **_interval("return", means("return")),
    }


def _total(name: str, games: Games, sides: Sides, samples: int) -> dict[str, Any]:
    """Return a policy's mean over its games with the others, in both places; each task counts once."""
    parts = [
        (_by_task(played, samples), agents)
        for (row, column), played in games.items()
        for who, agents in ((row, sides.row), (column, sides.column))
        if who == name and row != column
    ]
    found: dict[str, Any] = {}
    for key in ("score", "return"):
        by_task: dict[int, list[float]] = {}
        for tasks, agents in parts:
            for number, task in enumerate(tasks):
                by_task.setdefault(number, []).extend(_of(t, agents, key) for t in task if not t.is_error)
        found |= _interval(key, [fmean(values) for values in by_task.values() if values])
    return found


def _ratings(games: Games, sides: Sides, samples: int) -> dict[str, Any]:
    """Return the ratings, the best first; or why there are none."""
    matches = list(_matches(games, sides, samples))
    if all(match.scores[0] == match.scores[1] for match in matches):
        reason = "Both sides had the same score in every match, so nobody can be rated."
        return {"ratings": None, "ratings_left_out": reason}
    try:
        ratings = rate(matches)
    except ConfigError as error:
        return {"ratings": None, "ratings_left_out": str(error)}
    rows = [
        {"policy": name, "mu": r.mu, "sigma": r.sigma, "ordinal": r.ordinal, "num_matches": r.num_matches}
        for name, r in ratings.items()
    ]
    return {"ratings": rows}


def _matches(games: Games, sides: Sides, samples: int) -> Iterator[Match]:
    """Yield one match for each two policies, task and sample: both games with the places exchanged, so that the luck
    of a task or seat is the same for both. Where one of the two broke, there is none.
    """
    for (row, column), played in games.items():
        if row >= column:
            continue
        for number, both in enumerate(zip(played, games[column, row], strict=True)):
            if any(trajectory.is_error for trajectory in both):
                continue
            first = _of(both[0], sides.row, "score") + _of(both[1], sides.column, "score")
            second = _of(both[0], sides.column, "score") + _of(both[1], sides.row, "score")
            yield Match((number % samples, number // samples), (row, column), (first / 2, second / 2))


def _of(trajectory: Trajectory, agents: Sequence[str], key: str) -> float:
    """Return the mean of some agents."""
    return fmean(float(trajectory.info["seats"][agent][key]) for agent in agents)


def _by_task(played: Sequence[Trajectory], samples: int) -> list[Sequence[Trajectory]]:
    return [played[start : start + samples] for start in range(0, len(played), samples)]


def _means(tasks: Sequence[Sequence[Trajectory]], value: Callable[[Trajectory], float]) -> list[float]:
    """Return the mean of each task's valid episodes; a task without any is left out."""
    valid = [[value(t) for t in task if not t.is_error] for task in tasks]
    return [fmean(values) for values in valid if values]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _interval(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a mean with its bootstrap interval over tasks; None where every episode broke."""
    return {name: _mean(values), f"{name}_ci95": list(bootstrap_mean(values)) if values else None}


def crossplay_view(summary: Mapping[str, Any]) -> RenderableType:
    """Return the matrix of the row's returns, ratings and exact values, for a terminal."""
    seats = summary["seats"]
    matrix = Table(
        box=box.SIMPLE_HEAD, title=f"return of {_listed(seats['row'])} (row) with {_listed(seats['column'])}"
    )
    matrix.add_column("")
    names = summary["policies"]
    for name in names:
        matrix.add_column(name, justify="right")
    cells = {(cell["row"], cell["column"]): cell for cell in summary["cells"]}
    for row in names:
        matrix.add_row(row, *(_shown(cells[row, column]) for column in names))
    parts: list[RenderableType] = [matrix, _rating_table(summary)]
    parts += [Text(f"{name}: {line}") for name in names if (line := exact_line(summary["exact"].get(name)))]
    num_errors = sum(cell["num_errors"] for cell in cells.values())
    if num_errors:
        parts.append(Text(f"{num_errors} episodes ended with an error and are not in the means", "red"))
    return Group(*parts)


def crossplay_picture(summary: Mapping[str, Any]) -> str:
    """Return the matrix as an SVG document: returns of the row's policy, their intervals below."""
    names = summary["policies"]
    cells = {(cell["row"], cell["column"]): cell["row_side"] for cell in summary["cells"]}
    values = [[cells[row, column]["return"] for column in names] for row in names]
    notes = [[_bounds(cells[row, column]["return_ci95"]) for column in names] for row in names]
    known = [abs(value) for line in values for value in line if value is not None]
    top = max(known, default=1.0) or 1.0
    title = f"{summary['env']}: return of the row's policy ({_listed(summary['seats']['row'])})"
    return heat_map(title, names, names, values, notes, (-top, top))


def _rating_table(summary: Mapping[str, Any]) -> RenderableType:
    if summary["ratings"] is None:
        return Text(summary["ratings_left_out"])
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("policy")
    for heading in ("rating", "mu", "sigma", "matches", "mean score", "95 % interval"):
        table.add_column(heading, justify="right")
    for row in summary["ratings"]:
        total = summary["totals"][row["policy"]]
        numbers = (f"{row['ordinal']:.2f}", f"{row['mu']:.2f}", f"{row['sigma']:.2f}", str(row["num_matches"]))
        table.add_row(row["policy"], *numbers, f"{total['score']:.3f}", _bounds(total["score_ci95"]))
    return table


def _shown(cell: Mapping[str, Any]) -> str:
    side = cell["row_side"]
    if side["return"] is None:
        return "-"
    team = f" won {percent(cell['team']['success'])}" if cell["team"]["success"] else ""
    return f"{side['return']:+.3f} ({_bounds(side['return_ci95'])}){team}"


def _bounds(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _listed(agents: Sequence[str]) -> str:
    return ", ".join(agents)
