"""Entries with options, and the registries of algorithms, controls, operators and strategies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError, RegistryError
from agentgym_rft.registry.plugins import Plugin, PluginRegistry
from agentgym_rft.rollouts.strategies import STRATEGIES
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm, clipped_policy_gradient
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean
from agentgym_rft.trainers.algorithms.operators import build_operators

HERE = __name__


class Size(Options):
    size: int = 1


def sized(options):
    return options.size


def bare(section, options):
    return clipped_policy_gradient(section, group_advantage(group_mean))


def empty(section, options):
    """Forgets to return the algorithm."""


def hot(algorithm, options, unit):
    return replace(algorithm, temperature=2.0)


def unbuilt(group):
    """What an operator does to a group, without the function that makes it from options."""
    return group


async def alone(plan, workers):
    raise NotImplementedError


@pytest.fixture
def sizes():
    registry = PluginRegistry("Size", "tests.sizes", ("options",), int)
    registry.register("sized", Plugin(sized, Size))
    return registry


def test_options_are_those_of_the_entry_by_name_and_by_path(sizes):
    for name in ("sized", f"{HERE}:sized"):
        build, options = sizes.configured(name, {"size": 4})
        assert build(options) == 4
        with pytest.raises(ConfigError, match=f"^Size '{name}' has no option 'sise'. Did you mean 'size'\\?$"):
            sizes.configured(name, {"sise": 4})
        with pytest.raises(ConfigError, match=f"^Option 'size' of size '{name}' is 'big': "):
            sizes.configured(name, {"size": "big"})


def test_a_list_has_names_and_mappings(sizes):
    listed = list(sizes.listed(["sized", {"name": f"{HERE}:sized", "size": 2}], "some.key"))
    assert [(name, build(options)) for name, build, options in listed] == [("sized", 1), (f"{HERE}:sized", 2)]
    with pytest.raises(ConfigError, match=r"^An entry of some\.key is \{'size': 2\}: expected a name, or a mapping"):
        list(sizes.listed([{"size": 2}], "some.key"))


def test_an_algorithm_and_a_control_may_be_functions_that_nobody_registered():
    section = AlgorithmSection(name=f"{HERE}:bare", controls=(f"{HERE}:hot",))
    algorithm = build_algorithm(section)
    assert algorithm.name == f"{HERE}:bare"
    assert algorithm.temperature == 2.0
    with pytest.raises(ConfigError, match=r"^Algorithm '.*:bare' has no option 'scale'\. It has none\.$"):
        build_algorithm(section.model_copy(update={"options": {"scale": "std"}}))


def test_a_shipped_algorithm_has_its_options_by_path_too():
    name = "agentgym_rft.trainers.algorithms.grpo:grpo"
    assert build_algorithm(AlgorithmSection(name=name, options={"scale": "none"})).name == name
    with pytest.raises(ConfigError, match=r"has no option 'scal'\. Did you mean 'scale'"):
        build_algorithm(AlgorithmSection(name=name, options={"scal": "none"}))


def test_a_control_is_listed_twice_by_name_and_path():
    path = "agentgym_rft.trainers.algorithms.entropy.controls:clip_b"
    with pytest.raises(ConfigError, match=f"^Entropy control '{path}' is in algorithm.controls twice; list it once"):
        build_algorithm(AlgorithmSection(controls=("clip_b", path)))


def test_a_function_that_returns_something_else_is_refused():
    with pytest.raises(RegistryError, match=r"^Algorithm '.*:empty' returns NoneType, expected Algorithm\.$"):
        build_algorithm(AlgorithmSection(name=f"{HERE}:empty"))
    with pytest.raises(RegistryError, match=r"^Operator '.*:unbuilt' returns Options, expected Callable\.$"):
        build_operators([f"{HERE}:unbuilt"])


def test_a_function_of_another_kind_is_refused():
    with pytest.raises(RegistryError, match=r"^Algorithm '.*:hot' cannot be called with \(section, options\): "):
        build_algorithm(AlgorithmSection(name=f"{HERE}:hot"))
    with pytest.raises(RegistryError, match=r"^Entropy control '.*:bare' cannot be called with \(algorithm, options, "):
        build_algorithm(AlgorithmSection(controls=(f"{HERE}:bare",)))


def test_a_strategy_says_which_sections_it_reads():
    assert STRATEGIES.lookup(f"{HERE}:alone").play is alone
    assert STRATEGIES.lookup(f"{HERE}:alone").reads == frozenset()
    assert {name: set(entry.reads) for name, entry in STRATEGIES.items()} == {
        "plain": set(),
        "reflect_retry": {"rollout.reflect"},
        "counterfactual": {"team.counterfactual"},
    }


def test_the_public_mapping_gives_compositions_by_name():
    assert ALGORITHMS["grpo"].build.__name__ == "grpo"
    assert ALGORITHMS.get("grop") is None
