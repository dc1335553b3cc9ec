"""Algorithms with credit inside a trajectory: equal states, turn entropy, turn rewards, a critic; and imitation."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import credit
from agentgym_rft.trainers.algorithms.advantages import group_advantage, group_mean
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import register_algorithm
from agentgym_rft.trainers.algorithms.grpo import SCALES, clipped_policy_gradient, negative_log_likelihood
from agentgym_rft.trainers.algorithms.regularizers import value_loss
from agentgym_rft.trainers.algorithms.token_filters import only
from agentgym_rft.trainers.algorithms.units import unit_of


class GigpoOptions(Options):
    mode: Literal["mean_norm", "mean_std_norm"] = Field("mean_norm", description="without or with std as the scale")
    omega: float = Field(1.0, ge=0, description="weight of the step advantage")
    episode_unit: credit.EpisodeUnit = Field("trajectory", description="turn: as in code, once a turn")


@register_algorithm("gigpo", GigpoOptions)
def gigpo(section: AlgorithmSection, options: GigpoOptions) -> Algorithm:
    """GiGPO: episode advantage + omega * advantage among turns of the group in equal states. Source: 2505.10978."""
    scale = SCALES["std" if options.mode == "mean_std_norm" else "none"]
    advantage = credit.group_in_group(scale, options.omega, section.gamma, options.episode_unit)
    return clipped_policy_gradient(section, advantage)


class EmpgOptions(Options):
    scale: Literal["std", "none"] = "std"
    k: float = Field(1.0, ge=0, description="how much less an uncertain turn's advantage counts")
    k_next: float = Field(1.0, ge=0, description="how fast the bonus for a certain next turn falls with its entropy")
    zeta: float = Field(0.1, ge=0, description="weight of that bonus")


@register_algorithm("empg", EmpgOptions)
def empg(section: AlgorithmSection, options: EmpgOptions) -> Algorithm:
    """EMPG: GRPO's advantage scaled by the turn's confidence, plus a bonus for that of the next. Source: 2509.09265."""
    unit = unit_of(section, "advantage", "trajectory")
    advantage = group_advantage(group_mean, SCALES[options.scale], unit=unit, gamma=section.gamma)
    algorithm = clipped_policy_gradient(section, advantage)
    advantage_transform = credit.modulate_by_entropy(options.k, options.k_next, options.zeta)
    return replace(algorithm, advantage_transforms=(*algorithm.advantage_transforms, advantage_transform))


@register_algorithm("igpo")
def igpo(section: AlgorithmSection, options: Options) -> Algorithm:
    """IGPO's credit for the environment's turn rewards: they and the outcome are z-scored apart, then summed.

    The paper's turn reward, the gain in log-prob of the true answer, is for the environment to give. Its discount is 1:
    set `gamma`. Source: arXiv 2510.14967.
    """
    return clipped_policy_gradient(section, credit.normalised_turn_rewards(section.gamma))


class PpoOptions(Options):
    gae_lambda: float = Field(0.95, ge=0, le=1, description="lambda of the advantage estimate, from turn to turn")
    whiten: bool = Field(True, description="advantages of the batch's turns get mean 0 and variance 1")
    value_coef: float = Field(0.5, gt=0, description="weight of the value loss")
    value_clip: float | None = Field(None, gt=0, description="range around the old value; null: no clipping")


@register_algorithm("ppo", PpoOptions)
def ppo(section: AlgorithmSection, options: PpoOptions) -> Algorithm:
    """PPO with a critic on the policy's body that values the state before each turn. Source: arXiv 1707.06347."""
    advantage = credit.critic_advantage(section.gamma, options.gae_lambda, whiten=options.whiten)
    algorithm = clipped_policy_gradient(section, advantage)
    critic = value_loss(options.value_coef, options.value_clip)
    return replace(algorithm, regularizers=(*algorithm.regularizers, critic), min_group_size=1)


class SftOptions(Options):
    which: Literal["won", "all"] = Field("won", description="trajectories to imitate")


@register_algorithm("sft", SftOptions)
def sft(section: AlgorithmSection, options: SftOptions) -> Algorithm:
    """Imitation: the negative log-likelihood of the actions of won (or all) trajectories, played or stored."""
    return replace(negative_log_likelihood(section), filters=(only("won"),) if options.which == "won" else ())
