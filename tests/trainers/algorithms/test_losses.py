from __future__ import annotations

import math

import pytest
import torch

from agentgym_rft.trainers.algorithms import losses
from agentgym_rft.trainers.algorithms.parts import LossInputs
from agentgym_rft.trainers.algorithms.regularizers import entropy_bonus, kl_estimate, kl_penalty
from agentgym_rft.trainers.batch.table import build_table
from tests.trainers.tiny import fixed_groups


def inputs(ratios, advantages, **columns) -> LossInputs:
    logprobs = torch.tensor(ratios, dtype=torch.float64).log().requires_grad_()
    table = {"advantage": torch.tensor(advantages, dtype=torch.float64)}
    return LossInputs(logprobs, logprobs, logprobs.detach(), {}, {**table, **columns})


def test_the_clipped_surrogate_for_both_signs_and_both_bounds():
    #                      inside  high,A>0 high,A<0 low,A>0 low,A<0
    given = inputs([1.1, 1.5, 1.5, 0.5, 0.5], [2.0, 2.0, -2.0, 2.0, -2.0])
    loss, is_clipped = losses.clipped(losses.fixed_bounds(0.1, 0.3)).fn(given)
    assert loss.tolist() == pytest.approx([-2.2, -2.6, 3.0, -1.0, 1.8])
    assert is_clipped.tolist() == [False, True, False, False, True]
    (gradient,) = torch.autograd.grad(loss.sum(), given.logprobs)
    assert gradient.tolist() == pytest.approx([-2.2, 0, 3.0, -1.0, 0])  # -r A where not clipped


def test_at_ratio_one_the_gradient_is_minus_the_advantage():
    given = inputs([1.0, 1.0, 1.0], [0.5, -3.0, 0.0])
    loss, is_clipped = losses.clipped(losses.fixed_bounds(0.2, 0.2)).fn(given)
    (gradient,) = torch.autograd.grad(loss.sum(), given.logprobs)
    assert gradient.tolist() == pytest.approx([-0.5, 3.0, 0.0])
    assert not is_clipped.any()


# Two groups; trajectories of 1, 3 and 2 tokens. The last token of the second does not count in `some`.
LENGTHS = [[1, 3], [2]]
ALL = torch.ones(6)
SOME = torch.tensor([1.0, 1, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("aggregation", "counted", "expected"),
    [
        (losses.token_mean(), ALL, [1 / 6] * 6),
        (losses.token_mean(), SOME, [1 / 5, 1 / 5, 1 / 5, 0, 1 / 5, 1 / 5]),
        (losses.sequence_mean(), ALL, [1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 6, 1 / 6]),
        (losses.sequence_mean(), SOME, [1 / 3, 1 / 6, 1 / 6, 0, 1 / 6, 1 / 6]),
        (losses.fixed_length(4), ALL, [1 / 12] * 6),
        (losses.fixed_length(4), SOME, [1 / 12, 1 / 12, 1 / 12, 0, 1 / 12, 1 / 12]),
        (losses.sequence_mean(), torch.tensor([0.0, 1, 1, 1, 0, 0]), [0, 1 / 3, 1 / 3, 1 / 3, 0, 0]),
        (losses.fixed_length(4), torch.tensor([0.0, 1, 1, 1, 0, 0]), [0, 1 / 4, 1 / 4, 1 / 4, 0, 0]),
        (losses.token_mean(), torch.zeros(6), [0] * 6),
    ],
)
def test_aggregations_weigh_tokens_by_global_counts(aggregation, counted, expected):
    table, _ = build_table(fixed_groups([[1, 0], [1]], LENGTHS), 0)
    assert aggregation.fn(table, counted).tolist() == pytest.approx(expected)


def kl(logprobs: float, ref_logprobs: float, estimator) -> tuple[float, float]:
    """Value and derivative with respect to logprobs."""
    variable = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)
    value = kl_estimate(variable, torch.tensor(ref_logprobs, dtype=torch.float64), estimator)
    value.backward()
    return value.item(), variable.grad.item()


def test_kl_estimators_by_hand():
    # d = logprobs - ref_logprobs = -1 + 1.5 = 0.5
    assert kl(-1.0, -1.5, "k1") == pytest.approx((0.5, 0.5))
    assert kl(-1.0, -1.5, "k2") == pytest.approx((0.125, 0.5))
    assert kl(-1.0, -1.5, "k3") == pytest.approx((math.exp(-0.5) - 0.5, 1 - math.exp(-0.5)))


def test_k3_is_never_negative_and_zero_only_at_equality():
    logprobs = torch.linspace(-5, 0, 51, dtype=torch.float64)
    values = kl_estimate(logprobs[:, None], logprobs[None, :], "k3")
    assert (values >= 0).all()
    assert ((values < 1e-12) == torch.eye(51, dtype=torch.bool)).all()


def test_expected_estimates_and_gradients_are_those_of_the_kl_they_name():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(-1)
    ref_logprobs = torch.tensor([1.0, 0.0, -0.5, 0.2], dtype=torch.float64).log_softmax(-1)
    reverse, forward = (
        (logprobs.exp() * (logprobs - ref_logprobs)).sum(),
        (ref_logprobs.exp() * (ref_logprobs - logprobs)).sum(),
    )
    (reverse_gradient,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    (forward_gradient,) = torch.autograd.grad(forward, logits, retain_graph=True)
    for estimator, gradient in (("k1", reverse_gradient), ("k2", reverse_gradient), ("k3", forward_gradient)):
        expected = (logprobs.detach().exp() * kl_estimate(logprobs, ref_logprobs, estimator)).sum()
        (got,) = torch.autograd.grad(expected, logits, retain_graph=True)
        torch.testing.assert_close(got, gradient)
        if estimator != "k2":
            torch.testing.assert_close(expected, reverse)


def test_the_kl_penalty_reads_the_reference_and_the_bonus_rewards_entropy():
    given = inputs([0.5], [1.0], ref_logprobs=torch.tensor([-1.0], dtype=torch.float64))
    assert kl_penalty(0.1, "k2").fn(given).item() == pytest.approx((math.log(0.5) + 1) ** 2 / 2)
    assert kl_penalty(0.1, "k2").needs == {"ref_logprobs"}
    entropy = torch.tensor([0.7, 0.2])
    given = LossInputs(entropy, entropy, entropy, {"entropy": entropy}, {})
    assert entropy_bonus(0.01).fn(given).tolist() == pytest.approx([-0.7, -0.2])
