"""The GRPO family: compositions that differ in the advantage, the unit of the ratio or the mean of the loss.

To add one, write its missing part (one pure function) beside its siblings and register the composition here.
"""

from __future__ import annotations

from typing import Literal

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean, group_std, leave_one_out
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import (
    SCALES,
    GrpoOptions,
    clipped_policy_gradient,
    group_relative_policy_gradient,
    register_algorithm,
)
from agentgym_rft.trainers.algorithms.units import unit_of


class TurnGrpoOptions(Options):
    scale: Literal["std", "none"] = "std"


@register_algorithm("grpo", GrpoOptions)
def grpo(section: AlgorithmSection, options: GrpoOptions) -> Algorithm:
    """GRPO: return minus group mean, over group std (`scale=none`: without). Source: arXiv 2402.03300."""
    return group_relative_policy_gradient(section, options)


@register_algorithm("turn_grpo", TurnGrpoOptions)
def turn_grpo(section: AlgorithmSection, options: TurnGrpoOptions) -> Algorithm:
    """GRPO with turns as units: a turn's discounted return, relative to all turns of the group. Source: ours."""
    unit = unit_of(section, "advantage", "turn")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage)


@register_algorithm("dr_grpo")
def dr_grpo(section: AlgorithmSection, options: Options) -> Algorithm:
    """Dr. GRPO: no std, every trajectory's sum over the constant `fixed_length`. Source: arXiv 2503.20783."""
    advantage = group_advantage(group_mean, unit=unit_of(section, "advantage", "trajectory"), gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, aggregation=losses.fixed_length(section.fixed_length))


@register_algorithm("rloo")
def rloo(section: AlgorithmSection, options: Options) -> Algorithm:
    """RLOO's leave-one-out advantage in the clipped surrogate; at ratio 1 its gradient is the paper's REINFORCE.

    The paper sums a trajectory's tokens: that is `aggregation=fixed_length` with `fixed_length=1`. Source: 2402.14740.
    """
    unit = unit_of(section, "advantage", "trajectory")
    return clipped_policy_gradient(section, group_advantage(leave_one_out, unit=unit, gamma=section.gamma))


@register_algorithm("gspo")
def gspo(section: AlgorithmSection, options: Options) -> Algorithm:
    """GSPO: the ratio of a whole trajectory, mean over trajectories. Source: arXiv 2507.18071 eq. 5 to 7."""
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, group_std, unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, unit="trajectory", aggregation=losses.sequence_mean())
