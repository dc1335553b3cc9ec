"""Loss terms beside the policy loss: KL to a reference policy and entropy."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from agentgym_rft.trainers.stages import LossInputs, Regularizer

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(lp: Tensor, ref_lp: Tensor, estimator: KLEstimator) -> Tensor:
    """One-sample estimate of KL(policy || reference) at each token, nats, as a loss term. Same shape as `lp`.

    With d = lp - ref_lp of a token sampled from the policy, value and gradient are:

        k1  d              the gradient of k2, d * grad lp: d's own has zero mean and would teach nothing
        k2  d^2 / 2        its own, d * grad lp, unbiased for the gradient of KL(policy || reference)
        k3  e^-d + d - 1   its own, (1 - e^-d) * grad lp, unbiased for that of KL(reference || policy); as in GRPO

    No importance weight is applied: the tokens are taken as sampled from the current policy.
    Source: Schulman, "Approximating KL divergence", 2020; GRPO, arXiv 2402.03300 eq. 4.
    """
    difference = lp - ref_lp
    if estimator == "k1":
        half_square = difference.square() / 2
        return half_square + (difference - half_square).detach()
    if estimator == "k2":
        return difference.square() / 2
    return (-difference).exp() + difference - 1


def kl_penalty(coef: float, estimator: KLEstimator) -> Regularizer:
    """coef * KL estimate to the reference policy (column `ref_lp`)."""

    def fn(inputs: LossInputs) -> Tensor:
        return kl_estimate(inputs.lp, inputs.columns["ref_lp"], estimator)

    return Regularizer("kl", fn, coef, needs=frozenset({"ref_lp"}))


def entropy_bonus(coef: float) -> Regularizer:
    """-coef * entropy of the full next-token distribution."""
    return Regularizer("entropy", lambda inputs: -inputs.entropy, coef, needs_entropy_grad=True)
