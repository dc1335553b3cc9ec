from __future__ import annotations

import pytest

from agentgym_rft.report.bench import bench_table, over_samples, point


def task(*successes):
    return {"task_id": "t", "samples": [{"success": each, "score": each} for each in successes]}


def test_mean_std_best_and_worst_are_taken_within_a_task_and_then_over_tasks():
    """Means 1/2 and 1, std 1/2 and 0, best 1 and 1, worst 0 and 1."""
    found = over_samples([task(1, 0), task(1, 1)], "success")
    assert [found[name] for name in ("mean", "std", "best", "worst")] == [0.75, 0.25, 1.0, 0.5]
    assert found["best_ci95"] == [1.0, 1.0]
    low, high = found["worst_ci95"]
    assert low <= 0.5 <= high


def test_samples_with_an_error_are_left_out_and_so_is_a_task_of_them():
    found = over_samples([task(1, None), task(None, None)], "success")
    assert (found["mean"], found["worst"]) == (1.0, 1.0)
    assert over_samples([task(None)], "success") is None


def test_a_single_sample_is_its_own_best_and_worst():
    found = over_samples([{"task_id": "t", "success": True, "score": 0.5}], "score")
    assert [found[name] for name in ("mean", "std", "best", "worst")] == [0.5, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("successes", [(1, 0), (None, None)])
def test_the_table_has_a_row_a_checkpoint(successes):
    summary = {"num_tasks": 1, "num_errors": 0, "samples": 2, "tasks": [task(*successes)]}
    table = bench_table([point(0, summary), point(10, summary)])
    assert table.row_count == 2
    assert [column.header for column in table.columns][-3:] == ["best@2", "worst@2", "score"]
