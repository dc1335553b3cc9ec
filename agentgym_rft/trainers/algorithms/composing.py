"""The registry of algorithms, and what their compositions share.

Compositions live in `grpo.py` and its siblings by kind; the package imports them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.registry.plugins import Plugin, PluginRegistry
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.advantage_transforms import behaviour_weight
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean, group_std, unscaled, weigh_negative
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.parts import Aggregation, Ratio, Regularizer, Stage
from agentgym_rft.trainers.algorithms.regularizers import entropy_bonus, kl_penalty
from agentgym_rft.trainers.algorithms.units import Unit, unit_of

ANCHORS = {"old": "old_logprobs", "behaviour": "behaviour_logprobs"}
SCALES = {"std": group_std, "none": unscaled}


Compose = Callable[[AlgorithmSection, Any], Algorithm]

ALGORITHMS: PluginRegistry[Compose] = PluginRegistry(
    "Algorithm", "agentgym_rft.algorithms", ("section", "options"), Algorithm
)


def register_algorithm(name: str, options: type[Options] = Options) -> Callable[[Compose], Compose]:
    """Return a decorator that registers a composition: a function of the configuration's section and its options.

    Raises `RegistryError` for a name that is taken.
    """
    return ALGORITHMS.decorator(name, lambda compose: Plugin(compose, options))


def aggregation_of(section: AlgorithmSection) -> Aggregation:
    """The aggregation that the section names."""
    return {
        "token_mean": losses.token_mean(),
        "sequence_mean": losses.sequence_mean(),
        "fixed_length": losses.fixed_length(section.fixed_length),
    }[section.aggregation]


def regularizers_of(section: AlgorithmSection) -> tuple[Regularizer, ...]:
    """KL penalty and entropy bonus where their coefficients are not zero."""
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
    """The GRPO family: an advantage in the clipped surrogate, everything else from the section."""
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


def weigh_behaviour(algorithm: Algorithm, cap: float | None) -> Algorithm:
    """The algorithm with `algorithm.behaviour_cap`: losses times the truncated weight old policy / sampler.

    It is taken over the unit of the importance ratio. Raises `ConfigError` if the ratio is to the sampler already.
    """
    if cap is None:
        return algorithm
    if algorithm.ratio.anchor == "behaviour_logprobs":
        raise ConfigError(
            f"algorithm.behaviour_cap is {cap}, but the ratio of '{algorithm.name}' is to the sampler's policy: "
            "set algorithm.options.anchor=old."
        )
    return replace(
        algorithm, advantage_transforms=(*algorithm.advantage_transforms, behaviour_weight(cap, algorithm.ratio.unit))
    )


class GrpoOptions(Options):
    scale: Literal["std", "none"] = "std"
    anchor: Literal["old", "behaviour"] = "old"


def group_relative_policy_gradient(section: AlgorithmSection, options: GrpoOptions) -> Algorithm:
    """GRPO's composition, over whatever trajectories the rollout strategy puts into a group."""
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    return clipped_policy_gradient(section, advantage, anchor=options.anchor)
