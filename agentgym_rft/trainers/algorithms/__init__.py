"""The registered algorithms, each a composition of a few lines, and how a configuration's one is built."""

from __future__ import annotations

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import distillation, grpo, imitation, multi_turn, reflective, single_return  # noqa: F401
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import ALGORITHMS, register_algorithm, weigh_behaviour
from agentgym_rft.trainers.algorithms.entropy.controls import apply_controls, register_control
from agentgym_rft.trainers.algorithms.grpo import aggregation_of, clipped_policy_gradient, regularizers_of
from agentgym_rft.trainers.algorithms.operators import register_operator

__all__ = [
    "ALGORITHMS",
    "Options",
    "aggregation_of",
    "build_algorithm",
    "clipped_policy_gradient",
    "register_algorithm",
    "register_control",
    "register_operator",
    "regularizers_of",
]


def build_algorithm(section: AlgorithmSection) -> Algorithm:
    """Return the composition that a configuration names, with its controls.

    Raises `RegistryError` or `ConfigError`.
    """
    compose, options = ALGORITHMS.configured(section.name, section.options)
    algorithm = ALGORITHMS.checked(section.name, compose(section, options))
    return apply_controls(weigh_behaviour(algorithm, section.behaviour_cap), section)
