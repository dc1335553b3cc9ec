from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest

from agentgym_rft.core import StopReason, Trajectory
from agentgym_rft.evaluation.crossplay import Sides
from agentgym_rft.report.crossplay import crossplay_picture, summarise_crossplay


def game(task, first, second):
    """An episode in which two agents get these scores; None broke it."""
    if first is None:
        return Trajectory(task, task, task, (), StopReason.ENV_ERROR, info={"error": {}})
    seats = {
        agent: {"role": agent, "player": agent, "won": score > 0.5, "score": score, "return": score - 0.5, "turns": 1}
        for agent, score in (("x", first), ("y", second))
    }
    return replace(Trajectory(task, task, task, (), StopReason.FAILURE), info={"seats": seats})


def outcomes(*scores):
    """Two tasks with two samples each."""
    return [game(f"task-{number // 2}", *pair) for number, pair in enumerate(scores)]


GAMES = {
    ("a", "a"): outcomes((0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5)),
    ("a", "b"): outcomes((1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (None, None)),
    ("b", "a"): outcomes((0.0, 1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 0.0)),
    ("b", "b"): outcomes((None, None), (None, None), (None, None), (None, None)),
}


@pytest.fixture
def summary():
    return summarise_crossplay(GAMES, Sides(("x",), ("y",)), samples=2)


def test_cells_are_means_over_tasks_and_errors_are_counted_not_scored(summary):
    cells = {(cell["row"], cell["column"]): cell for cell in summary["cells"]}
    a_b = cells["a", "b"]
    assert (a_b["num_episodes"], a_b["num_errors"]) == (4, 1)
    assert a_b["row_side"]["score"] == fmean([0.5, 1.0])  # by task: the broken sample is left out of the second
    assert a_b["column_side"]["score"] == fmean([0.5, 0.0])
    assert a_b["row_side"]["return"] == 0.25
    assert a_b["row_side"]["score_ci95"] == [0.5, 1.0]
    assert cells["b", "b"]["row_side"]["score"] is None
    assert cells["b", "b"]["num_errors"] == 4


def test_totals_are_over_both_places_without_games_of_a_policy_with_itself(summary):
    first, second = fmean([1, 0, 1, 1]), fmean([1, 0, 0])  # of a, in the first and in the second task
    assert summary["totals"]["a"]["score"] == pytest.approx(fmean([first, second]))
    assert summary["totals"]["b"]["score"] == pytest.approx(1 - fmean([first, second]))


def test_a_match_is_both_games_of_a_task_and_sample(summary):
    assert {row["policy"]: row["num_matches"] for row in summary["ratings"]} == {"a": 3, "b": 3}  # one pair broke


def test_an_empty_cell_is_in_the_picture(summary):
    picture = crossplay_picture(summary | {"env": "Game-v0"})
    assert ">-</text>" in picture
    assert ">+0.250</text>" in picture
