"""Loss terms beside the policy loss: KL to a reference policy, entropy, imitation and a critic's value."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.base import AUXILIARY
from agentgym_rft.trainers.algorithms.credit import TURN_START, VALUE_TARGET
from agentgym_rft.trainers.algorithms.distribution_stats import VALUE
from agentgym_rft.trainers.algorithms.parts import Coefficient, LossInputs, Regularizer

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator) -> Tensor:
    """Return one-sample estimate of KL(policy || reference) at each token, nats, as a loss term.
    Same shape as `logprobs`.

    With d = logprobs - ref_logprobs of a token sampled from the policy, value and gradient are:

        k1  d              the gradient of k2, d * grad logprobs: d's own has zero mean and would teach nothing
        k2  d^2 / 2        its own, d * grad logprobs, unbiased for the gradient of KL(policy || reference)
        k3  e^-d + d - 1   its own, (1 - e^-d) * grad logprobs, unbiased for that of KL(reference || policy); as in GRPO

    No importance weight is applied: the tokens are taken as sampled from the current policy.
    Source: Schulman, "Approximating KL divergence", 2020; GRPO, arXiv 2402.03300 eq. 4.
    """
    difference = logprobs - ref_logprobs
    if estimator == "k1":
        half_square = difference.square() / 2
        return half_square + (difference - half_square).detach()
    if estimator == "k2":
        return difference.square() / 2
    return (-difference).exp() + difference - 1


def kl_penalty(coef: float, estimator: KLEstimator) -> Regularizer:
    """Return coef * KL estimate to the reference policy (column `ref_logprobs`)."""

    def fn(inputs: LossInputs) -> Tensor:
        return kl_estimate(inputs.logprobs, inputs.columns["ref_logprobs"], estimator)

    return Regularizer("kl", fn, coef, needs=frozenset({"ref_logprobs"}))


def entropy_bonus(coef: float) -> Regularizer:
    """Return -coef * entropy of the full next-token distribution."""
    return Regularizer(
        "entropy", lambda inputs: -inputs.distribution_stats["entropy"], coef, needs_grad=frozenset({"entropy"})
    )


def auxiliary_nll(coef: float) -> Regularizer:
    """Return coef * negative log-likelihood of auxiliary trajectories: reflections and guided retries worth imitating.

    Their mean is their own: how many there are does not change the weight of the policy loss.
    Source: R3L, arXiv 2601.03715 (L_SFT).
    """
    return Regularizer("auxiliary", lambda inputs: -inputs.logprobs, coef, mask=AUXILIARY)


def self_imitation(coef: float | Coefficient, clip_low: float, clip_high: float) -> Regularizer:
    """Return coef * clipped surrogate of auxiliary trajectories, each with its own advantage (column `imitation`,
    above 0).

    -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r the ratio to the policy that sampled the trajectory, so that
    what has become likely enough is left alone. Source: SPEAR, arXiv 2509.22601 (replay loss).
    """

    def fn(inputs: LossInputs) -> Tensor:
        ratio = (inputs.logprobs - inputs.columns["behaviour_logprobs"]).exp()
        bounded = ratio.detach().clamp(1 - clip_low, 1 + clip_high)
        return -torch.where(ratio > 1 + clip_high, bounded, ratio) * inputs.columns["imitation"]

    return Regularizer("imitation", fn, coef, needs=frozenset({"behaviour_logprobs", "imitation"}), mask=AUXILIARY)


def positive_nll(coef: float) -> Regularizer:
    """Return coef * negative log-likelihood of the won trajectories, in a mean of their own.

    Source: Klear-Reasoner, arXiv 2508.07629 (coefficient 0.1).
    """
    return Regularizer("positive", lambda inputs: -inputs.logprobs, coef, mask="won")


def value_loss(coef: float, clip: float | None) -> Regularizer:
    """Return coef * (V - target)^2 at the first token of each turn.

    With `clip`, V may gain from at most that distance to its value before the update: the larger of the losses of V and
    of V cut to that range. Source: PPO, arXiv 1707.06347 eq. 9; the clip is that of its released code.
    """

    def fn(inputs: LossInputs) -> Tensor:
        value, target = inputs.distribution_stats[VALUE], inputs.columns[VALUE_TARGET]
        loss = (value - target).square()
        if clip is None:
            return loss
        before = inputs.columns[VALUE]
        bounded = before + (value - before).clamp(-clip, clip)
        return torch.maximum(loss, (bounded - target).square())

    needs = frozenset({VALUE_TARGET} if clip is None else {VALUE_TARGET, VALUE})
    return Regularizer("value", fn, coef, needs, needs_grad=frozenset({VALUE}), mask=TURN_START)
