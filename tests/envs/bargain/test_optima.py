"""Instances and their optima: worked by hand, and the definitions by brute force."""

import hashlib

import pytest

from agentgym_rft.envs.bargain.instances import SPLIT_SIZES, Instance, instance_of, is_feasible, rest_of, splits, worth
from agentgym_rft.envs.bargain.optima import divisions, dominates, is_pareto_optimal, optima, values_of
from agentgym_rft.errors import DataError

# 1 book, 2 hats, 2 balls. To agent_1: book 2, hat 4, ball 0. To agent_2: book 4, hat 1, ball 2.
SMALL = Instance((1, 2, 2), ((2, 4, 0), (4, 1, 2)))


def test_the_optima_of_a_small_instance_worked_by_hand():
    # Hats are worth more to agent_1 (4 > 1), book (4 > 2) and balls (2 > 0) to agent_2: 2 * 4 + 4 + 2 * 2 = 16.
    found = optima(SMALL)
    assert (found.max_joint, found.best) == (16, (0, 2, 0))
    assert values_of(SMALL, (0, 2, 0)) == (8, 8)
    # agent_1 gives up hats (4 for 1), or also takes the book (2 for 4); the balls are worth nothing to it.
    assert found.frontier == ((0, 10), (4, 9), (8, 8), (10, 4))
    assert found.nash == (0, 2, 0)  # 8 * 8 = 64 > 10 * 4, 4 * 9
    assert not is_pareto_optimal(SMALL, (0, 2, 1))  # a ball that is worth nothing to agent_1
    assert not is_pareto_optimal(SMALL, (1, 1, 0))  # (6, 5), worse for both than (8, 8)


def test_the_best_sum_and_the_nash_solution_are_the_largest_of_all_divisions_and_may_differ():
    for task_id in splits()["test"]:
        instance = instance_of(task_id)
        found = optima(instance)
        sums = {division: sum(values_of(instance, division)) for division in divisions(instance.counts)}
        products = {d: values_of(instance, d)[0] * values_of(instance, d)[1] for d in divisions(instance.counts)}
        assert sums[found.best] == max(sums.values()) == found.max_joint > 10
        assert products[found.nash] == max(products.values()) > 0
        assert is_pareto_optimal(instance, found.best)
        assert is_pareto_optimal(instance, found.nash)
        assert min(values_of(instance, found.best)) > 0
    differing = [t for t in splits()["test"] if optima(instance_of(t)).best != optima(instance_of(t)).nash]
    assert 0 < len(differing) < 250


def test_pareto_optimal_is_what_no_division_dominates():
    for task_id in splits()["train"][:30]:
        instance = instance_of(task_id)
        pairs = [values_of(instance, division) for division in divisions(instance.counts)]
        for division in divisions(instance.counts):
            mine, theirs = values_of(instance, division)
            better = [(a, b) for a, b in pairs if (a >= mine and b > theirs) or (a > mine and b >= theirs)]
            assert is_pareto_optimal(instance, division) == (not better)
    assert dominates((3, 4), (3, 3))
    assert not dominates((3, 3), (3, 3))
    assert not dominates((4, 2), (3, 3))


def test_a_division_gives_every_item_to_one_agent():
    assert len(divisions((1, 2, 2))) == 2 * 3 * 3
    for division in divisions(SMALL.counts):
        left = rest_of(SMALL.counts, division)
        for values in SMALL.values:
            assert worth(values, division) + worth(values, left) == 10


def test_splits_have_distinct_feasible_games_that_do_not_return_with_the_seats_exchanged():
    ids = splits()
    assert {split: len(tasks) for split, tasks in ids.items()} == SPLIT_SIZES
    instances = [instance_of(task_id) for tasks in ids.values() for task_id in tasks]
    assert all(map(is_feasible, instances))
    assert len({instance.content() for instance in instances}) == 2500
    mirrored = {Instance(instance.counts, instance.values[::-1]).task_id for instance in instances}
    assert not mirrored & {task_id for tasks in ids.values() for task_id in tasks}
    frozen = hashlib.sha256("\n".join(ids["train"] + ids["test"]).encode()).hexdigest()
    assert frozen[:16] == "76d4473d898e9c0e"  # if this changes, raise VERSION


@pytest.mark.parametrize(
    "task_id",
    [
        "v1/1-2-2/2-4-0/4-1-3",  # worth 12 to agent_2
        "v1/1-2-2/2-4-0/2-4-0",  # equal values
        "v1/1-1-4/10-0-0/0-2-2",  # no kind is worth something to both
        "v1/1-2-2/02-4-0/4-1-2",
        "v2/1-2-2/2-4-0/4-1-2",
        "v1/1-5-1/2-1-3/1-1-4",
        "nonsense",
    ],
)
def test_what_is_no_instance_is_refused(task_id):
    assert instance_of("v1/1-2-2/2-4-0/4-1-2") == SMALL
    with pytest.raises(DataError, match="There is no task"):
        instance_of(task_id)
