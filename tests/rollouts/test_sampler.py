from __future__ import annotations

import json
from collections import Counter

import pytest

from agentgym_rft.config.run import TasksSection
from agentgym_rft.core import Group, StopReason, Trajectory
from agentgym_rft.errors import DataError
from agentgym_rft.rollouts.sampler import TaskSampler
from agentgym_rft.rollouts.seeds import derive_seed

TASKS = [f"t{i}" for i in range(7)]


def test_each_pass_draws_every_task_once_in_another_order():
    sampler = TaskSampler(TASKS, seed=3)
    first, second = sampler.draw(7), sampler.draw(7)
    assert sorted(first) == sorted(second) == TASKS
    assert first != second


def test_a_sampler_with_the_same_cursor_goes_on_alike():
    whole = TaskSampler(TASKS, seed=3).draw(20)
    resumed = TaskSampler(TASKS, seed=3, cursor=9)
    assert resumed.draw(11) == whole[9:]
    assert resumed.cursor == 20


def test_the_seed_decides_the_order():
    assert TaskSampler(TASKS, seed=1).draw(7) != TaskSampler(TASKS, seed=2).draw(7)


def test_a_split_without_tasks_is_refused():
    with pytest.raises(DataError, match="no tasks"):
        TaskSampler([], seed=0)


def test_derived_seeds_are_fixed_and_differ_by_part_and_order():
    assert derive_seed(0, "a", 1) == 7932600460227222859
    assert len({derive_seed(*parts) for parts in [(0, 1), (1, 0), ("0/1",), (1,)]}) == 4
    assert 0 <= derive_seed("x") < 2**63


def outcome(task_id, won, of=4):
    """A group of a task, so many of whose trajectories won."""
    members = (Trajectory(task_id, "g", f"e{n}", (), WON if n < won else LOST) for n in range(of))
    return Group("g", task_id, tuple(members))


WON, LOST = StopReason.SUCCESS, StopReason.FAILURE


def adaptive(**section):
    return TaskSampler(TASKS, 3, section=TasksSection(**section))


def test_outcomes_change_nothing_of_the_default_order():
    told, plain = TaskSampler(TASKS, seed=3), TaskSampler(TASKS, seed=3)
    for _ in range(4):
        drawn = told.draw(5)
        assert drawn == plain.draw(5)
        told.observe(outcome(drawn[0], 4))
    assert told.state_dict() == plain.state_dict() == {"cursor": 20}
    assert told.metrics() == {}


def test_sequential_order_is_that_of_the_split():
    assert adaptive(order="sequential").draw(9) == [*TASKS, "t0", "t1"]


def test_a_rate_is_a_moving_average_of_first_attempts_without_errors():
    sampler = adaptive(order="frontier")
    retry = Trajectory("t0", "g", "r", (), WON, parent_id="e0")
    broken = Trajectory("t0", "g", "b", (), StopReason.ENV_ERROR)
    first = outcome("t0", 2)
    sampler.observe(Group("g", "t0", (*first.trajectories, retry, broken)))
    sampler.observe(outcome("t0", 4))
    sampler.observe(Group("g", "t0", (broken,)))
    assert sampler.state_dict()["rates"] == {"t0": 0.5 + 0.5 * (1 - 0.5)}
    assert sampler.metrics() == {"tasks/seen": 1, "tasks/solved": 0, "tasks/rate": 0.75}


def test_easy_to_hard_goes_by_falling_rate_from_the_second_pass_on():
    sampler = adaptive(order="easy_to_hard")
    assert sampler.draw(7) == TaskSampler(TASKS, seed=3).draw(7)
    for task_id, won in {"t3": 4, "t5": 3, "t0": 0}.items():
        sampler.observe(outcome(task_id, won))
    second = sampler.draw(4)
    assert second[:2] == ["t3", "t5"]
    sampler.observe(outcome("t1", 4))  # the pass that is under way stays as it is
    assert sampler.draw(3)[-1] == "t0"


def test_frontier_prefers_tasks_that_are_won_half_the_time():
    sampler = adaptive(order="frontier")
    for task_id in TASKS:
        sampler.observe(outcome(task_id, {"t2": 2}.get(task_id, 4)))
    counts = Counter(task_id for _ in range(300) for task_id in sampler.draw(1))
    assert counts["t2"] / 300 == pytest.approx(0.25 / (0.25 + 6 * 0.01), abs=0.08)
    assert set(counts) == set(TASKS)  # the floor lets none starve
    assert len(set(sampler.draw(7))) == 7


def test_solved_tasks_are_left_out_and_checked_again_now_and_then():
    sampler = adaptive(skip_solved=0.9)
    sampler.observe(outcome("t4", 4))
    passes = [sampler.draw(6) for _ in range(4)]
    assert all("t4" not in drawn for drawn in passes)
    assert "t4" in sampler.draw(7)
    sampler.observe(outcome("t4", 0))
    assert sampler.metrics()["tasks/solved"] == 0
    assert "t4" in sampler.draw(7)


def test_a_split_that_is_solved_is_played_all_the_same():
    sampler = adaptive(skip_solved=0.9)
    for task_id in TASKS:
        sampler.observe(outcome(task_id, 4))
    assert len(sampler.draw(3)) == 3


@pytest.mark.parametrize("order", ["shuffled", "sequential", "easy_to_hard", "frontier"])
def test_a_sampler_goes_on_alike_from_what_a_checkpoint_keeps(order):
    def play(sampler, rounds):
        drawn = []
        for number in rounds:
            tasks = sampler.draw(3)
            drawn += tasks
            for task_id in tasks:
                sampler.observe(outcome(task_id, (int(task_id[1]) + number) % 5))
        return drawn

    section = {"order": order, "skip_solved": 0.8}
    whole, first, second = (adaptive(**section) for _ in range(3))
    expected = play(whole, range(12))
    begun = play(first, range(5))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + play(second, range(5, 12)) == expected
