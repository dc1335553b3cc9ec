"""Makes a leaderboard of results: a ranked table for each panel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym_rft import __version__
from agentgym_rft.errors import DataError
from agentgym_rft.report.evaluation import Summary, read_evaluations, read_summary
from agentgym_rft.report.paired import Comparison, compare, why_incomparable
from agentgym_rft.report.published import PublishedRow

# Results that differ in any of these are ranked in different tables.
_GAME = ("env", "split", "panel_hash", "options", "max_steps")


@dataclass(frozen=True, slots=True)
class Entry:
    """A result by name. `rank` counts from 1, equal for equal success, None without a success.

    `against_best` compares it with the first of its table; None for that one itself, and where card, temperature or
    samples differ from it.
    """

    name: str
    summary: Summary
    rank: int | None
    against_best: Comparison | None


@dataclass(frozen=True, slots=True)
class Board:
    """The results of one panel, the best first."""

    protocol: Mapping[str, Any]  # what all of them share
    num_tasks: int
    entries: tuple[Entry, ...]


def read_result(path: Path) -> Summary:
    """Return the result in a file that `agentgym eval` wrote, or the last evaluation of a run directory.

    Raises:
        DataError: it is missing, damaged, or no result.
    """
    if path.is_dir():
        evaluations = read_evaluations(path)
        if not evaluations:
            raise DataError(f"'{path}' is no run with an evaluation. Give result files, or run directories.")
        return evaluations[-1][1]
    return read_summary(path)


def named_results(arguments: Sequence[str]) -> list[tuple[str, Summary]]:
    """Return results of `PATH` or `NAME=PATH`, by name; without one, the name is the result's policy.
    Raises `DataError`.
    """
    results = []
    for argument in arguments:
        name, mark, path = argument.partition("=")
        is_named = bool(mark) and not Path(argument).exists()
        summary = read_result(Path(path if is_named else argument))
        results.append((name if is_named else str(summary["policy"]), summary))
    return results


def make_boards(results: Sequence[tuple[str, Summary]]) -> list[Board]:
    """Return a board for each panel under the same rules of the game, in the order of their first results."""
    by_game: dict[str, list[tuple[str, Summary]]] = {}
    for name, summary in results:
        game = {key: summary["protocol"][key] for key in _GAME}
        by_game.setdefault(json.dumps(game, sort_keys=True), []).append((name, summary))
    return [_board(json.loads(game), members) for game, members in by_game.items()]


def _board(protocol: Mapping[str, Any], members: Sequence[tuple[str, Summary]]) -> Board:
    ordered = sorted(members, key=lambda member: _success(member[1]), reverse=True)  # stable: ties keep their order
    best = ordered[0]
    entries = [_entry(name, summary, ordered, best) for name, summary in ordered]
    return Board(protocol, best[1]["num_tasks"], tuple(entries))


def _entry(name: str, summary: Summary, ordered: Sequence[tuple[str, Summary]], best: tuple[str, Summary]) -> Entry:
    success = _success(summary)
    rank = None if summary["success"] is None else 1 + sum(_success(other) > success for _, other in ordered)
    is_compared = summary is not best[1] and rank is not None and why_incomparable(best[1], summary) is None
    against = None
    if is_compared:
        try:
            against = compare(summary, best[1], (name, best[0]))
        except DataError:  # no task ended without an error in both
            against = None
    return Entry(name, summary, rank, against)


def _success(summary: Summary) -> float:
    return -1.0 if summary["success"] is None else float(summary["success"])


def board_json(boards: Sequence[Board], published: Sequence[PublishedRow]) -> dict[str, Any]:
    """Return the boards as a JSON object; results come without their rows by task."""
    tables = [
        {
            "protocol": dict(board.protocol),
            "num_tasks": board.num_tasks,
            "entries": [
                {
                    "name": entry.name,
                    "rank": entry.rank,
                    **{key: value for key, value in entry.summary.items() if key != "tasks"},
                    "against_best": None if entry.against_best is None else entry.against_best.as_json(),
                }
                for entry in board.entries
            ],
        }
        for board in boards
    ]
    return {"version": __version__, "tables": tables, "published": [row.model_dump() for row in published]}
