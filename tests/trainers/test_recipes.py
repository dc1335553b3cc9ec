"""Every shipped recipe names an algorithm that can be built and run as it says."""

from __future__ import annotations

import pytest

from agentgym_rft.config import find_yaml, load_config, read_yaml, shipped_dir
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.table import available_columns

NAMES = sorted(
    path.stem for path in shipped_dir("trainers").glob("*.yaml") if "algorithm" in read_yaml(path)
)  # others make a policy by imitation


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_builds_an_algorithm_that_can_run(name):
    config = load_config(name)
    algorithm = build_algorithm(config.algorithm)
    columns = available_columns(reference=algorithm.needs_reference, critic=algorithm.needs_critic)
    algorithm.validate(columns, config.rollout.group_size)


def test_every_algorithm_has_a_recipe_of_its_name():
    own = {name: load_config(name).algorithm.name for name in NAMES if name != "alfworld"}
    assert own == {name: name for name in ALGORITHMS}


def test_the_recipes_differ_in_algorithm_and_rollout_only():
    """So that runs of two recipes can be compared."""
    main = read_yaml(find_yaml("trainers", "alfworld"))
    for name in NAMES:
        recipe = read_yaml(find_yaml("trainers", name))
        for section in ("env", "agent", "policy", "eval", "run"):
            assert recipe[section] == main[section], (name, section)


def test_dapo_replaces_groups_without_signal():
    assert load_config("dapo").rollout.max_resample > 0


def test_mc_grpo_plays_groups_of_odd_size():
    assert load_config("mc_grpo").rollout.group_size % 2 == 1
