"""Algorithms over groups of first attempts and reflected retries (`rollout.strategy: reflect_retry`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import (
    SCALES,
    GrpoOptions,
    clipped_policy_gradient,
    group_relative_policy_gradient,
    register_algorithm,
    regularizers_of,
)
from agentgym_rft.trainers.algorithms.credit import BestRule, BestValue, amplify_positive, group_mean_or_zero
from agentgym_rft.trainers.algorithms.regularizers import auxiliary_nll
from agentgym_rft.trainers.algorithms.token_filters import pivotal_mask
from agentgym_rft.trainers.algorithms.units import unit_of

Scaling = Literal["std", "none"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One published form of R3L."""

    best_rule: BestRule
    best_value: BestValue
    scale: Scaling
    is_code: bool  # baseline 0 for a single member, mean over tokens, loss / (1 + tau)


VARIANTS = {
    "paper": Variant("group_max", "alpha", "std", is_code=False),
    "appendix": Variant("threshold", "one", "std", is_code=False),
    "code": Variant("threshold", "one", "none", is_code=True),
}


class R3LOptions(Options):
    variant: Literal["paper", "appendix", "code"] = Field("paper", description="which published form")
    best_rule: BestRule | None = Field(None, description="what makes a trajectory best; default: the variant's")
    best_value: BestValue | None = Field(None, description="advantage of a best one; none: as any other")
    scale: Scaling | None = Field(None, description="what R - mean is divided by; default: the variant's")
    alpha: float = Field(3.0, gt=0, description="factor on positive advantages")
    threshold: float = Field(1.0, description="return of a best trajectory under best_rule=threshold")
    tau: float = Field(1.0, ge=0, description="variant=code divides the loss by 1 + tau")
    amplify: bool = Field(True, description="positive amplification")
    pivot: bool = Field(True, description="pivotal credit: turns before the pivot are not trained")
    auxiliary_coef: float = Field(1.0, ge=0, description="weight of imitating reflections and verified corrections")


@register_algorithm("r3l", R3LOptions)
def r3l(section: AlgorithmSection, options: R3LOptions) -> Algorithm:
    """R3L: REINFORCE with positive amplification, pivotal credit and imitation of what reflection taught.

    Paper and appendix take the mean over a trajectory's trained tokens, then over trajectories; the released code the
    mean over tokens, divided by 1 + tau. Source: arXiv 2601.03715; github shiweijiezero/R3L.
    """
    variant = VARIANTS[options.variant]
    baseline = group_mean_or_zero if variant.is_code else group_mean
    scale = SCALES[options.scale or variant.scale]
    unit = unit_of(section, "advantage", "trajectory")
    best_rule, best_value = options.best_rule or variant.best_rule, options.best_value or variant.best_value
    amplification = amplify_positive(options.alpha, best_rule, best_value, options.threshold)
    algorithm = clipped_policy_gradient(section, group_advantage(baseline, scale, unit=unit, gamma=section.gamma))
    imitation = (auxiliary_nll(options.auxiliary_coef),) if options.auxiliary_coef else ()
    return replace(
        algorithm,
        surrogate=losses.reinforce(1 / (1 + options.tau)) if variant.is_code else losses.reinforce(),
        aggregation=losses.token_mean() if variant.is_code else losses.sequence_mean(),
        advantage_transforms=(*algorithm.advantage_transforms, *((amplification,) if options.amplify else ())),
        filters=(pivotal_mask(),) if options.pivot else (),
        regularizers=(*regularizers_of(section), *imitation),
    )


@register_algorithm("reflect_grpo", GrpoOptions)
def reflect_grpo(section: AlgorithmSection, options: GrpoOptions) -> Algorithm:
    """Reflect-GRPO: GRPO over first attempts and retries together. Source: a baseline of R3L, arXiv 2601.03715."""
    return group_relative_policy_gradient(section, options)


class CritiqueGrpoOptions(Options):
    scale: Scaling = "none"
    shaping_gamma: float = Field(0.1, gt=0, description="gamma of the policy shaping x / (x + gamma) of refinements")


@register_algorithm("critique_grpo", CritiqueGrpoOptions)
def critique_grpo(section: AlgorithmSection, options: CritiqueGrpoOptions) -> Algorithm:
    """Critique-GRPO: R - mean over attempts and refinements; policy shaping instead of the ratio on refinements.

    A trajectory's sum over the constant `fixed_length`, no std. Source: arXiv 2506.03106; zhangxy-2019/critique-GRPO.
    """
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage, aggregation=losses.fixed_length(section.fixed_length))
    return replace(algorithm, surrogate=losses.shaped_off_context(algorithm.surrogate, options.shaping_gamma))
