"""Algorithms that learn from another policy at the states that this one reaches: on-policy distillation.

The teacher (`algorithm.teacher`) has the same vocabulary and never samples. It says how likely each token was, either
the sampled one (column `teacher_logprobs`) or every one (statistics of two distributions).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from agentgym_rft.config.base import Options
from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.base import Algorithm
from agentgym_rft.trainers.algorithms.composing import register_algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import DistributionStat
from agentgym_rft.trainers.algorithms.grpo import (
    GrpoOptions,
    clipped_policy_gradient,
    grpo,
    negative_log_likelihood,
)
from agentgym_rft.trainers.algorithms.parts import Coefficient, Context, LossInputs, Regularizer, Stage
from agentgym_rft.trainers.algorithms.regularizers import kl_estimate
from agentgym_rft.trainers.batch.table import TokenTable

Divergence = Literal["reverse", "forward", "jsd"]
MIXTURE = "mixture_logprobs"  # column of the geometric mixture of old policy and teacher, not normalised
TEACHER_LOGPROBS = frozenset({"teacher_logprobs"})


def divergence(kind: Divergence, log_probs: Tensor, teacher_log_probs: Tensor, beta: float = 0.5) -> Tensor:
    """Return a divergence of two distributions over the last dimension, nats, [k].

        reverse  KL(policy || teacher)
        forward  KL(teacher || policy)
        jsd      beta KL(teacher || m) + (1 - beta) KL(policy || m), m = beta teacher + (1 - beta) policy

    Source: GKD, arXiv 2306.13649 (its generalised Jensen-Shannon divergence).
    """
    if kind == "reverse":
        return _kl(log_probs, teacher_log_probs)
    if kind == "forward":
        return _kl(teacher_log_probs, log_probs)
    mixed = (beta * teacher_log_probs.exp() + (1 - beta) * log_probs.exp()).log()
    return beta * _kl(teacher_log_probs, mixed) + (1 - beta) * _kl(log_probs, mixed)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return sum p (ln p - ln q); a token that p rules out adds nothing."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


def coarsened(log_probs: Tensor, teacher_log_probs: Tensor, chosen: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return both distributions over the `top_k` tokens that are likeliest under `chosen`, and one for all the rest.

    No divergence grows by that, and it is exact between the two that are returned. [k, V] -> [k, top_k + 1].
    """
    top = chosen.topk(min(top_k, chosen.shape[-1] - 1), dim=-1).indices
    return _with_rest(log_probs.gather(-1, top)), _with_rest(teacher_log_probs.gather(-1, top))


def _with_rest(log_probs: Tensor) -> Tensor:
    rest = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp_min(torch.finfo(log_probs.dtype).tiny)
    return torch.cat([log_probs, rest.log()], dim=-1)


def teacher_divergence(kind: Divergence, beta: float, top_k: int | None) -> DistributionStat:
    """Return the divergence to the teacher at each position.

    With `top_k` over the tokens that are likeliest under the distribution that the expectation is taken of: the
    teacher's for `forward`, else the policy's.
    """

    def fn(log_probs: Tensor, probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        if top_k is not None:
            chosen = teacher_log_probs if kind == "forward" else log_probs.detach()
            log_probs, teacher_log_probs = coarsened(log_probs, teacher_log_probs, chosen, top_k)
        return divergence(kind, log_probs, teacher_log_probs, beta)

    return DistributionStat("teacher_divergence", fn, uses_teacher=True)


class OpdOptions(Options):
    divergence: Literal["reverse", "forward", "jsd", "sampled"] = Field(
        "reverse", description="to the teacher, over the vocabulary; sampled: reverse, by policy gradient"
    )
    beta: float = Field(0.5, gt=0, lt=1, description="weight of the teacher in jsd")
    top_k: int | None = Field(None, ge=1, description="likeliest tokens to compare, all others as one; null: all")
    scale: float = Field(1.0, gt=0, description="with sampled: factor on the teacher's gain over the start policy")


@register_algorithm("opd", OpdOptions)
def opd(section: AlgorithmSection, options: OpdOptions) -> Algorithm:
    """On-policy distillation: at each sampled token the divergence to `algorithm.teacher`, and no reward.

    `sampled` is a policy gradient with the advantage ln teacher - ln policy of the sampled token; `scale` above 1
    goes beyond the teacher. Source: GKD, arXiv 2306.13649; G-OPD, arXiv 2602.12125.
    """
    if options.divergence == "sampled":
        return replace(clipped_policy_gradient(section, teacher_gain(options.scale)), min_group_size=1)
    distance = teacher_divergence(options.divergence, options.beta, options.top_k)
    term = Regularizer(
        "teacher",
        lambda inputs: inputs.distribution_stats[distance.name],
        1.0,
        needs_grad=frozenset({distance.name}),
    )
    algorithm = replace(negative_log_likelihood(section), surrogate=losses.nothing(), distribution_stats=(distance,))
    return replace(algorithm, regularizers=(*algorithm.regularizers, term))


def teacher_gain(scale: float) -> Stage:
    """Return the stage that gives scale (teacher - b) - (old - b), log-probs of the sampled token.

    b is the start policy's (`ref_logprobs`), which only a `scale` other than 1 needs. Source: arXiv 2602.12125.
    """
    needs = TEACHER_LOGPROBS | {"old_logprobs"} | (frozenset({"ref_logprobs"}) if scale != 1 else frozenset())

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        teacher, old = table.columns["teacher_logprobs"], table.columns["old_logprobs"]
        base = table.columns["ref_logprobs"] if scale != 1 else 0.0
        return {"advantage": scale * (teacher - base) - (old - base)}

    return Stage("teacher_gain", fn, needs, frozenset({"advantage"}))


class KdrlOptions(GrpoOptions):
    beta: float = Field(5e-3, ge=0, description="weight of the KL to the teacher in the first step")
    beta_end: float = Field(1e-3, ge=0, description="its weight from step `beta_steps` on")
    beta_steps: int = Field(100, ge=1, description="steps in which it falls, linearly")


@register_algorithm("kdrl", KdrlOptions)
def kdrl(section: AlgorithmSection, options: KdrlOptions) -> Algorithm:
    """KDRL: GRPO plus beta times the k2 estimate of KL(policy || teacher). Source: arXiv 2506.02208."""
    algorithm = grpo(section, options)

    def fn(inputs: LossInputs) -> Tensor:
        return kl_estimate(inputs.logprobs, inputs.columns["teacher_logprobs"], "k2")

    beta = linear(options.beta, options.beta_end, options.beta_steps)
    term = Regularizer("teacher", fn, beta, needs=TEACHER_LOGPROBS)
    return replace(algorithm, regularizers=(*algorithm.regularizers, term))


def linear(first: float, last: float, steps: int) -> Coefficient:
    """Return `first` in step 0, `last` from step `steps` on, and a line between."""

    def value(context: Context) -> float:
        return first + (last - first) * min(context.step / steps, 1.0)

    return value


class TrrdOptions(GrpoOptions):
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the old policy in the mixture; 1: GRPO")


@register_algorithm("trrd", TrrdOptions)
def trrd(section: AlgorithmSection, options: TrrdOptions) -> Algorithm:
    """Trust-region ratio distillation: GRPO whose ratio is to old^alpha teacher^(1 - alpha). Source: 2602.22495."""
    algorithm = grpo(section, options)
    anchor = algorithm.ratio.anchor
    own, needs = partial(_mixture, anchor, options.alpha), TEACHER_LOGPROBS | {anchor}
    stage = Stage("mixture", own, needs, frozenset({MIXTURE}))
    transforms = (*algorithm.advantage_transforms, stage)
    return replace(algorithm, advantage_transforms=transforms, ratio=replace(algorithm.ratio, anchor=MIXTURE))


def _mixture(anchor: str, alpha: float, table: TokenTable, context: Context) -> Mapping[str, Tensor]:
    return {MIXTURE: alpha * table.columns[anchor] + (1 - alpha) * table.columns["teacher_logprobs"]}
