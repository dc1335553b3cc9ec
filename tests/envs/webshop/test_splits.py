import random

import numpy as np
import pytest

from agentgym_rft.envs.webshop.presets import PRESETS, find_preset
from agentgym_rft.envs.webshop.splits import SPLITS, Positions, Shares, TaskIds, make_splits, shuffled
from agentgym_rft.errors import ConfigError
from tests.envs.webshop.shops import goals, mugs_with_goals


def test_the_shuffle_is_that_of_an_own_generator() -> None:
    expected = list(range(6910))
    random.Random(233).shuffle(expected)
    assert shuffled(6910, 233).tolist() == expected


def test_every_preset_has_the_three_splits_and_a_name() -> None:
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert isinstance(preset.splits, Shares) or tuple(preset.splits) == SPLITS
    with pytest.raises(ConfigError, match="Did you mean 'princeton'"):
        find_preset("princton")


def test_positions_are_slices_of_the_shuffled_goals() -> None:
    shop = mugs_with_goals(40)
    rule = {"train": Positions(233, 20, None), "dev": Positions(233, 10, 20), "test": Positions(233, 0, 10)}
    splits = make_splits(rule, goals(shop), shop.table)
    order = shuffled(40, 233).tolist()
    assert [splits[name].tolist() for name in SPLITS] == [order[20:], order[10:20], order[:10]]
    too_few = {**rule, "train": Positions(233, 1500, None)}
    assert all(part.tolist() == order for part in make_splits(too_few, goals(shop), shop.table).values())


def test_shares_put_all_goals_of_a_query_into_one_split() -> None:
    shop = mugs_with_goals(1500)
    made = goals(shop)
    splits = make_splits(Shares(dev=0.1, test=0.2), made, shop.table)
    queries = {name: {made[int(index)].query for index in splits[name]} for name in SPLITS}
    assert sum(len(found) for found in queries.values()) == len(set.union(*queries.values())) == 500
    assert 30 < len(queries["dev"]) < 70
    assert 70 < len(queries["test"]) < 130
    assert sum(len(part) for part in splits.values()) == 1500


def test_the_split_of_a_goal_does_not_depend_on_the_size_of_the_catalogue() -> None:
    small, large = (mugs_with_goals(number) for number in (300, 900))
    parts = [make_splits(Shares(dev=0.1, test=0.2), goals(shop), shop.table)["test"] for shop in (small, large)]
    assert [index for index in parts[1] if index < 300] == parts[0].tolist()


def test_task_ids_are_a_sequence_that_makes_names_when_asked() -> None:
    asked: list[int] = []

    def name(index: int) -> str:
        asked.append(index)
        return f"task {index}"

    ids = TaskIds(np.array([5, 3, 9]), name)
    assert (len(ids), ids[1], ids[:2], list(ids)) == (3, "task 3", ["task 5", "task 3"], ["task 5", "task 3", "task 9"])
    assert asked == [3, 5, 3, 5, 3, 9]
