"""Algorithms that learn from one return for each trajectory (or turn), other than the GRPO family of `grpo.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.advantage_transforms import kl_to_go, whiten
from agentgym_rft.trainers.algorithms.advantages import (
    constant_baseline,
    group_advantage,
    group_mean,
    group_std,
    log_mean_exp,
    shifted,
    unscaled,
)
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import register_algorithm
from agentgym_rft.trainers.algorithms.grpo import SCALES, clipped_policy_gradient, regularizers_of
from agentgym_rft.trainers.algorithms.regularizers import positive_nll
from agentgym_rft.trainers.algorithms.reward_shaping import Length, overlong_penalty
from agentgym_rft.trainers.algorithms.selections import (
    BESIDE_MEDIAN,
    MadFallback,
    Select,
    count_tokens,
    median_advantage,
    median_deviation,
    selected,
)
from agentgym_rft.trainers.algorithms.token_filters import only, without_signal_dropped
from agentgym_rft.trainers.algorithms.units import Unit, unit_of

Scaling = Literal["std", "none"]
Anchor = Literal["old", "behaviour"]


def _unit(section: AlgorithmSection) -> Unit:
    return unit_of(section, "advantage", "trajectory")


class DapoOptions(Options):
    overlong_limit: int | None = Field(None, ge=1, description="length of the full penalty; null: no penalty")
    overlong_buffer: int = Field(1, ge=1, description="lengths before the limit over which the penalty grows")
    overlong_unit: Length = Field("tokens", description="length in action tokens or in turns")
    overlong_factor: float = Field(1.0, gt=0, description="the full penalty")


@register_algorithm("dapo", DapoOptions)
def dapo(section: AlgorithmSection, options: DapoOptions) -> Algorithm:
    """DAPO: GRPO, mean over tokens, only groups with signal, soft penalty on long trajectories. Source: 2503.14476.

    Its clip range is `clip_low` 0.2 and `clip_high` 0.28; `rollout.max_resample` makes up for groups without signal.
    """
    advantage = group_advantage(group_mean, group_std, unit=_unit(section), gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage, aggregation=losses.token_mean())
    algorithm = replace(algorithm, filters=(without_signal_dropped(),))
    limit, buffer = options.overlong_limit, options.overlong_buffer
    if limit is None:
        return algorithm
    if buffer > limit:
        raise ConfigError(f"Algorithm 'dapo' has overlong_buffer {buffer} above overlong_limit {limit}.")
    shaper = overlong_penalty(options.overlong_unit, limit, buffer, options.overlong_factor)
    return replace(algorithm, reward_shaping=(shaper,))


class ReinforcePpOptions(Options):
    baseline: Literal["none", "group"] = Field("none", description="taken off before whitening; group: its mean")


@register_algorithm("reinforce_pp", ReinforcePpOptions)
def reinforce_pp(section: AlgorithmSection, options: ReinforcePpOptions) -> Algorithm:
    """REINFORCE++: returns whitened over the batch's tokens, in the clipped surrogate. Source: arXiv 2501.03262.

    `kl_coef` weighs the KL inside the return; with `baseline=group`, as in the paper, it is a loss term.
    """
    is_grouped = options.baseline == "group"
    baseline = group_mean if is_grouped else constant_baseline(0.0)
    advantage = group_advantage(baseline, unit=_unit(section), gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage)
    advantage_transforms = (whiten(), *algorithm.advantage_transforms)
    if is_grouped:
        return replace(algorithm, advantage_transforms=advantage_transforms)
    if section.kl_coef:
        advantage_transforms = (kl_to_go(section.kl_coef), *advantage_transforms)
    terms = regularizers_of(section.model_copy(update={"kl_coef": 0.0}))
    return replace(algorithm, advantage_transforms=advantage_transforms, regularizers=terms, min_group_size=1)


class ScaleOptions(Options):
    scale: Scaling = "std"
    anchor: Anchor = "old"


@register_algorithm("cispo", ScaleOptions)
def cispo(section: AlgorithmSection, options: ScaleOptions) -> Algorithm:
    """CISPO: GRPO's advantage; bounds limit a token's importance weight, no token is dropped. Source: 2506.13585."""
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=_unit(section), gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage, anchor=options.anchor)
    return replace(algorithm, surrogate=losses.cispo(losses.fixed_bounds(section.clip_low, section.clip_high)))


class OpmdOptions(Options):
    baseline: Literal["mean", "logmeanexp"] = Field("mean", description="of the group; tau ln mean exp(R / tau)")
    tau: float = Field(1.0, gt=0, description="temperature of logmeanexp; the loss is divided by 1 + tau")


@register_algorithm("opmd", OpmdOptions)
def opmd(section: AlgorithmSection, options: OpmdOptions) -> Algorithm:
    """OPMD: -A log-prob / (1 + tau) without importance ratio. Source: arXiv 2509.24203; Trinity-RFT."""
    baseline = group_mean if options.baseline == "mean" else log_mean_exp(options.tau)
    advantage = group_advantage(baseline, unit=_unit(section), gamma=section.gamma)
    return replace(clipped_policy_gradient(section, advantage), surrogate=losses.reinforce(1 / (1 + options.tau)))


class AsymreOptions(Options):
    shift: float = Field(-0.1, description="added to the group's mean; below 0 favours what worked")


@register_algorithm("asymre", AsymreOptions)
def asymre(section: AlgorithmSection, options: AsymreOptions) -> Algorithm:
    """AsymRE: off-policy REINFORCE with a baseline below the group's mean. Source: arXiv 2506.20520."""
    advantage = group_advantage(shifted(group_mean, options.shift), unit=_unit(section), gamma=section.gamma)
    return replace(clipped_policy_gradient(section, advantage), surrogate=losses.reinforce())


class RaftOptions(Options):
    select: Select = Field("best", description="best of the group, or all that reach the threshold")
    threshold: float = Field(1.0, description="return to reach, with select=threshold")


@register_algorithm("raft", RaftOptions)
def raft(section: AlgorithmSection, options: RaftOptions) -> Algorithm:
    """RAFT: the negative log-likelihood of the best trajectories, in a mean over them alone. Source: 2304.06767."""
    advantage = selected(options.select, options.threshold, _unit(section), section.gamma)
    algorithm = clipped_policy_gradient(section, advantage)
    return replace(algorithm, surrogate=losses.reinforce(), filters=(only("advantage"),), min_group_size=1)


class ToprOptions(Options):
    baseline: float = Field(0.5, description="taken off the return; below it, a trajectory counts as negative")
    ratio: Literal["product", "mean"] = Field("product", description="of the unit's tokens; mean: the geometric one")
    anchor: Anchor = Field("behaviour", description="policy that the ratio is to")


@register_algorithm("topr", ToprOptions)
def topr(section: AlgorithmSection, options: ToprOptions) -> Algorithm:
    """TOPR: imitates positives as they are, pushes negatives with a ratio cut to [0, 1]. Source: arXiv 2503.14286.

    The paper's rewards are 1 and -1; returns of 0 and 1 less the baseline 0.5 are the same up to a factor.
    """
    advantage = group_advantage(constant_baseline(options.baseline), unscaled, unit=_unit(section), gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage, anchor=options.anchor, unit="trajectory")
    is_product = options.ratio == "product"
    counting = (count_tokens(algorithm.ratio.unit),) if is_product else ()
    surrogate = losses.topr(product=is_product)
    return replace(
        algorithm,
        surrogate=surrogate,
        advantage_transforms=(*counting, *algorithm.advantage_transforms),
        min_group_size=1,
    )


class GppoOptions(ScaleOptions):
    dual_clip: float | None = Field(
        None, gt=1, description="ratio beyond which failures stop; 3 in the code; null: none"
    )
    positive_coef: float = Field(0.1, ge=0, description="weight of imitating won trajectories")


@register_algorithm("gppo", GppoOptions)
def gppo(section: AlgorithmSection, options: GppoOptions) -> Algorithm:
    """GPPO: bounds keep a gradient of their own size, plus imitation of what was won. Source: arXiv 2508.07629."""
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=_unit(section), gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage, anchor=options.anchor)
    surrogate = losses.gppo(losses.fixed_bounds(section.clip_low, section.clip_high))
    if options.dual_clip is not None:
        surrogate = losses.dual_clip(surrogate, options.dual_clip)
    imitation = (positive_nll(options.positive_coef),) if options.positive_coef else ()
    return replace(algorithm, surrogate=surrogate, regularizers=(*algorithm.regularizers, *imitation))


class McGrpoOptions(Options):
    scale: Literal["mad", "none"] = Field("mad", description="median absolute deviation, or none")
    fallback: MadFallback = Field("std", description="divisor where that is 0; released: 0.001, as in the code")
    rescale: bool = Field(True, description="times group size / members whose advantage is not zero, as in the code")


@register_algorithm("mc_grpo", McGrpoOptions)
def mc_grpo(section: AlgorithmSection, options: McGrpoOptions) -> Algorithm:
    """MC-GRPO: distance from the group's median; the member at the median is not trained. Source: arXiv 2601.22582.

    Groups should have an odd size. Its other parts are GRPO's.
    """
    scale = median_deviation(options.fallback) if options.scale == "mad" else unscaled
    advantage = median_advantage(scale, _unit(section), section.gamma, rescale=options.rescale)
    return replace(clipped_policy_gradient(section, advantage), filters=(only(BESIDE_MEDIAN),))
