"""Every shipped recipe names an algorithm that can be built and run as it says, in each environment with a recipe."""

from __future__ import annotations

import pytest

from agentgym_rft.cli.settings import default_recipe, fresh_config
from agentgym_rft.config.load import load_config, read_yaml, shipped_dir
from agentgym_rft.registry import env_specs
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.batch.table import available_columns

RECIPES = {path.stem: read_yaml(path) for path in shipped_dir("trainers").glob("*.yaml")}
METHODS = sorted(name for name, recipe in RECIPES.items() if "env" not in recipe)
METHOD = {"algorithm", "rollout", "store"}
ENVS = sorted(spec.short_name for spec in env_specs() if default_recipe(spec.id))


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("recipe", [None, *METHODS])
def test_a_recipe_builds_an_algorithm_that_can_run(recipe, env):
    config = fresh_config(env, recipe, ())
    algorithm = build_algorithm(config.algorithm)
    columns = available_columns(reference=algorithm.needs_reference, critic=algorithm.needs_critic)
    algorithm.validate(columns, config.rollout.group_size)


def test_every_algorithm_has_a_recipe_of_its_name():
    assert {name: RECIPES[name]["algorithm"]["name"] for name in METHODS} == {name: name for name in ALGORITHMS}


@pytest.mark.parametrize("env", ENVS)
def test_a_method_changes_algorithm_and_rollout_of_an_environment_only(env):
    """So that runs of two methods can be compared. What a method remembers (spear) is its own, too."""
    own = fresh_config(env, None, ())
    for name in METHODS:
        config = fresh_config(env, name, ())
        assert config.model_dump(exclude=METHOD) == own.model_dump(exclude=METHOD)


def test_a_method_takes_nothing_from_the_algorithm_of_the_environment():
    assert fresh_config("alfworld", None, ()).algorithm.negative_weight == 0.1
    assert fresh_config("alfworld", "grpo", ()).algorithm.negative_weight == 1.0


def test_dapo_replaces_groups_without_signal():
    assert load_config("dapo").rollout.max_resample > 0


def test_mc_grpo_plays_groups_of_odd_size():
    assert load_config("mc_grpo").rollout.group_size % 2 == 1
