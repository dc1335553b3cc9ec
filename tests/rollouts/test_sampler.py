from __future__ import annotations

import pytest

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
