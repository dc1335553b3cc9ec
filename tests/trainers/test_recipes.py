"""Every shipped recipe names an algorithm that can be built and run as it says, in each environment with a recipe."""

from __future__ import annotations

import re

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
    needs = {"reference": algorithm.needs_reference, "critic": algorithm.needs_critic}
    columns = available_columns(**needs, teacher=algorithm.needs_teacher)
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


def weighs_failures(recipe):
    """True if failures have another weight than successes in any stage that a recipe names itself."""
    sections = [recipe, *recipe.get("stages", ())]
    return any(section.get("algorithm", {}).get("negative_weight", 1) != 1 for section in sections)


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("name", METHODS)
def test_failures_weigh_as_published_in_the_recipe_of_a_method(name, env):
    """Nothing of this kind is taken from the recipe of the environment, either."""
    assert not weighs_failures(RECIPES[name])
    assert fresh_config(env, name, ()).algorithm.negative_weight == 1


def test_failures_weigh_little_in_household_tasks_only_and_their_recipes_say_so():
    own = sorted(name for name, recipe in RECIPES.items() if weighs_failures(recipe))
    assert own == ["alfworld", "household_planner", "householdteam", "real_model"]
    for name in own:
        comments = re.findall(r"^# .*", (shipped_dir("trainers") / f"{name}.yaml").read_text("utf-8"), re.MULTILINE)
        assert "negative_weight" in " ".join(comments)
        assert RECIPES[name]["algorithm"]["negative_weight"] == 0.1


@pytest.mark.parametrize("name", ["asymre", "rloo", "topr"])
def test_methods_on_the_probability_of_a_whole_trajectory_sum_its_log_probs(name):
    assert fresh_config("alfworld", name, ()).algorithm.aggregation == "fixed_length"


@pytest.mark.parametrize("name", ["grpo", "igpo", "mix"])
def test_methods_with_a_mean_over_each_trajectory_take_it(name):
    assert fresh_config("alfworld", name, ()).algorithm.aggregation == "sequence_mean"


def test_dapo_replaces_groups_without_signal():
    assert load_config("dapo").rollout.max_resample > 0


def test_mc_grpo_plays_groups_of_odd_size():
    assert load_config("mc_grpo").rollout.group_size % 2 == 1
