"""The GRPO family: compositions that differ in the advantage, the unit of the ratio or the mean of the loss.

To add one, write its missing part (one pure function) beside its siblings and register the composition here.
"""

from __future__ import annotations

from typing import Literal

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.advantages import (
    group_advantage,
    group_mean,
    group_std,
    leave_one_out,
    unscaled,
    weigh_negative,
)
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import register_algorithm
from agentgym_rft.trainers.algorithms.credit import constant_advantage
from agentgym_rft.trainers.algorithms.parts import Aggregation, Ratio, Regularizer, Stage
from agentgym_rft.trainers.algorithms.regularizers import entropy_bonus, kl_penalty
from agentgym_rft.trainers.algorithms.units import Unit, unit_of

ANCHORS = {"old": "old_logprobs", "behaviour": "behaviour_logprobs"}
SCALES = {"std": group_std, "none": unscaled}


def aggregation_of(section: AlgorithmSection) -> Aggregation:
    """Return the aggregation that the section names."""
    return {
        "token_mean": losses.token_mean(),
        "sequence_mean": losses.sequence_mean(),
        "fixed_length": losses.fixed_length(section.fixed_length),
    }[section.aggregation]


def regularizers_of(section: AlgorithmSection) -> tuple[Regularizer, ...]:
    """Return KL penalty and entropy bonus where their coefficients are not zero."""
    terms = []
    if section.kl_coef:
        terms.append(kl_penalty(section.kl_coef, section.kl_estimator))
    if section.entropy_coef:
        terms.append(entropy_bonus(section.entropy_coef))
    return tuple(terms)


def clipped_policy_gradient(
    section: AlgorithmSection,
    advantage: Stage,
    *,
    anchor: str = "old",
    unit: Unit = "token",
    aggregation: Aggregation | None = None,
) -> Algorithm:
    """Return an advantage in the clipped surrogate, with everything else as the section says."""
    ratio_unit = unit_of(section, "ratio", unit)
    return Algorithm(
        name=section.name,
        advantage=advantage,
        surrogate=losses.clipped(losses.fixed_bounds(section.clip_low, section.clip_high)),
        aggregation=aggregation or aggregation_of(section),
        ratio=Ratio(ANCHORS[anchor], ratio_unit, unit_of(section, "clip", ratio_unit)),
        advantage_transforms=(weigh_negative(section.negative_weight),) if section.negative_weight != 1 else (),
        regularizers=regularizers_of(section),
        min_group_size=2,
    )


def negative_log_likelihood(section: AlgorithmSection) -> Algorithm:
    """Return the imitation of every trained token, with everything else as the section says."""
    return Algorithm(
        name=section.name,
        advantage=constant_advantage(),
        surrogate=losses.reinforce(),
        aggregation=aggregation_of(section),
        ratio=Ratio(),
        regularizers=regularizers_of(section),
    )


class GrpoOptions(Options):
    scale: Literal["std", "none"] = "std"
    anchor: Literal["old", "behaviour"] = "old"


class TurnGrpoOptions(Options):
    scale: Literal["std", "none"] = "std"


@register_algorithm("grpo", GrpoOptions)
def grpo(section: AlgorithmSection, options: GrpoOptions) -> Algorithm:
    """GRPO: return minus group mean, over group std (`scale=none`: without). Source: arXiv 2402.03300.

    It takes whatever trajectories the rollout strategy puts into a group.
    """
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, anchor=options.anchor)


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
