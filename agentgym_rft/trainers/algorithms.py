"""Registered algorithms, each a composition of a few lines.

To add one, write its missing part (one pure function) beside its siblings and register the composition here.
"""

from __future__ import annotations

from typing import Literal

from agentgym_rft.config.base import Options, read_options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import RegistryError, did_you_mean
from agentgym_rft.trainers import imitation, losses, multi_turn, reflective, single_return  # noqa: F401 - they register
from agentgym_rft.trainers.advantages import group_advantage, group_mean, group_std, leave_one_out
from agentgym_rft.trainers.algorithm import Algorithm
from agentgym_rft.trainers.composing import (
    ALGORITHMS,
    SCALES,
    GrpoOptions,
    aggregation_of,
    clipped_policy_gradient,
    group_relative_policy_gradient,
    register,
    regularizers_of,
    weigh_behaviour,
)
from agentgym_rft.trainers.controls import apply_controls, unit_of

__all__ = ["ALGORITHMS", "aggregation_of", "build_algorithm", "clipped_policy_gradient", "register", "regularizers_of"]


def build_algorithm(section: AlgorithmSection) -> Algorithm:
    """The composition that a configuration names, with its controls. Raises `RegistryError` or `ConfigError`."""
    if section.name not in ALGORITHMS:
        raise RegistryError(f"No algorithm is called '{section.name}'.{did_you_mean(section.name, ALGORITHMS)}")
    entry = ALGORITHMS[section.name]
    options = read_options(entry.options, section.options, f"Algorithm '{section.name}'")
    algorithm = weigh_behaviour(entry.build(section, options), section.behaviour_cap)
    return apply_controls(algorithm, section)


class TurnGrpoOptions(Options):
    scale: Literal["std", "none"] = "std"


@register("grpo", GrpoOptions)
def grpo(section: AlgorithmSection, options: GrpoOptions) -> Algorithm:
    """GRPO: return minus group mean, over group std (`scale=none`: without). Source: arXiv 2402.03300."""
    return group_relative_policy_gradient(section, options)


@register("turn_grpo", TurnGrpoOptions)
def turn_grpo(section: AlgorithmSection, options: TurnGrpoOptions) -> Algorithm:
    """GRPO with turns as units: a turn's discounted return, relative to all turns of the group. Source: ours."""
    unit = unit_of(section, "advantage", "turn")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage)


@register("dr_grpo")
def dr_grpo(section: AlgorithmSection, options: Options) -> Algorithm:
    """Dr. GRPO: no std, every trajectory's sum over the constant `fixed_length`. Source: arXiv 2503.20783."""
    advantage = group_advantage(group_mean, unit=unit_of(section, "advantage", "trajectory"), gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, aggregation=losses.fixed_length(section.fixed_length))


@register("rloo")
def rloo(section: AlgorithmSection, options: Options) -> Algorithm:
    """RLOO's leave-one-out advantage in the clipped surrogate; at ratio 1 its gradient is the paper's REINFORCE.

    The paper sums a trajectory's tokens: that is `aggregation=fixed_length` with `fixed_length=1`. Source: 2402.14740.
    """
    unit = unit_of(section, "advantage", "trajectory")
    return clipped_policy_gradient(section, group_advantage(leave_one_out, unit=unit, gamma=section.gamma))


@register("gspo")
def gspo(section: AlgorithmSection, options: Options) -> Algorithm:
    """GSPO: the ratio of a whole trajectory, mean over trajectories. Source: arXiv 2507.18071 eq. 5 to 7."""
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, group_std, unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, unit="trajectory", aggregation=losses.sequence_mean())
