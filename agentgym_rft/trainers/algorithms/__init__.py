"""The registered algorithms, each a composition of a few lines, and how a configuration's one is built."""

from __future__ import annotations

from agentgym_rft.config.base import read_options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import RegistryError, did_you_mean
from agentgym_rft.trainers.algorithms import grpo, imitation, multi_turn, reflective, single_return  # noqa: F401
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import (
    ALGORITHMS,
    aggregation_of,
    clipped_policy_gradient,
    register,
    regularizers_of,
    weigh_behaviour,
)
from agentgym_rft.trainers.algorithms.entropy.controls import apply_controls

__all__ = ["ALGORITHMS", "aggregation_of", "build_algorithm", "clipped_policy_gradient", "register", "regularizers_of"]


def build_algorithm(section: AlgorithmSection) -> Algorithm:
    """The composition that a configuration names, with its controls. Raises `RegistryError` or `ConfigError`."""
    if section.name not in ALGORITHMS:
        raise RegistryError(f"No algorithm is called '{section.name}'.{did_you_mean(section.name, ALGORITHMS)}")
    entry = ALGORITHMS[section.name]
    options = read_options(entry.options, section.options, f"Algorithm '{section.name}'")
    algorithm = weigh_behaviour(entry.build(section, options), section.behaviour_cap)
    return apply_controls(algorithm, section)
