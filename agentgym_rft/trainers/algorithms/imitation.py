"""Algorithms that also imitate: an expert's demonstrations (MIX) or the policy's own best episodes (SPEAR)."""

from __future__ import annotations

import math
from dataclasses import replace

from pydantic import Field

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import register_algorithm
from agentgym_rft.trainers.algorithms.grpo import GrpoOptions, grpo, negative_log_likelihood
from agentgym_rft.trainers.algorithms.parts import Coefficient, Context
from agentgym_rft.trainers.algorithms.regularizers import auxiliary_nll, self_imitation


class MixOptions(GrpoOptions):
    mu: float = Field(0.1, ge=0, le=1, description="weight of imitation; 1 - mu that of the policy loss")


@register_algorithm("mix", MixOptions)
def mix(section: AlgorithmSection, options: MixOptions) -> Algorithm:
    """MIX: (1 - mu) GRPO + mu times the negative log-likelihood of demonstrations (`rollout.experts`).

    Source: Trinity-RFT, arXiv 2505.17826, its MIX algorithm.
    """
    algorithm = grpo(section, options)
    imitation = (auxiliary_nll(options.mu),) if options.mu else ()
    surrogate = losses.scaled(algorithm.surrogate, 1 - options.mu)
    return replace(algorithm, surrogate=surrogate, regularizers=(*algorithm.regularizers, *imitation))


@register_algorithm("dagger")
def dagger(section: AlgorithmSection, options: Options) -> Algorithm:
    """DAgger: imitation of what the environment's expert would do at every state that the policy reached.

    Source: arXiv 1011.0686, with the policy's own play from the first iteration on and the newest episodes alone.
    """
    return replace(negative_log_likelihood(section), learns_labels=True)


class SpearOptions(GrpoOptions):
    imitation_coef: float = Field(0.1, gt=0, description="weight of self-imitation after its warm-up")
    imitation_steps: int = Field(200, ge=1, description="steps over which that weight rises from 0, as a half cosine")


@register_algorithm("spear", SpearOptions)
def spear(section: AlgorithmSection, options: SpearOptions) -> Algorithm:
    """SPEAR: GRPO plus self-imitation of stored episodes with recalibrated advantages (`store.replay_as: imitation`).

    Source: arXiv 2509.22601; TencentYoutuResearch/SPEAR.
    """
    algorithm = grpo(section, options)
    coef = cosine_rise(options.imitation_coef, options.imitation_steps)
    term = self_imitation(coef, section.clip_low, section.clip_high)
    return replace(algorithm, regularizers=(*algorithm.regularizers, term))


def cosine_rise(high: float, steps: int) -> Coefficient:
    """Return high (1 - cos(pi min(step, steps) / steps)) / 2: 0 in the first step, `high` from step `steps` on."""

    def value(context: Context) -> float:
        return high * (1 - math.cos(math.pi * min(context.step, steps) / steps)) / 2

    return value
