"""Entropy dynamics: the entropy of a batch by turn and task type, and its change by the coming update, to first order.

At one position with next-token distribution p and entropy H, a logit step a (e_k - p) changes the entropy by
-a (S_k - N) + O(a^2), with S_i = p_i (H + ln p_i) and N = E_{i~p}[S_i]. The policy loss L pushes the logits at a
sampled token k along (e_k - p), with a proportional to -dL/dlp; that is the token's `pull` here. For the clipped
surrogate it is weight x ratio x advantage.

Source: arXiv 2602.03392, theorems 3.2 and 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.base import AUXILIARY, Algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY, MEAN_DISCRIMINATOR
from agentgym_rft.trainers.algorithms.entropy.statistics import discriminator
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.algorithms.units import Unit
from agentgym_rft.trainers.batch.table import TokenTable
from agentgym_rft.trainers.learner.objective import Objective, minibatch_weights, unit_log_ratio
from agentgym_rft.trainers.learner.scoring import Scores

WATCHED = (ENTROPY, MEAN_DISCRIMINATOR)  # columns that `dynamics` needs beside `old_logprobs`

# First and last turn of each bucket; the last one is open.
TURN_BUCKETS: dict[str, tuple[int, float]] = {
    "0": (0, 0),
    "1_to_4": (1, 4),
    "5_to_9": (5, 9),
    "10_to_19": (10, 19),
    "20_up": (20, float("inf")),
}


def dynamics(algorithm: Algorithm, table: TokenTable, context: Context) -> dict[str, float]:
    """Return metrics of the entropy before the update and of its predicted change, over all but auxiliary tokens.

    Args:
        table: prepared, with `old_logprobs` and the columns of `WATCHED`.
    """
    pull, gap = policy_pull(algorithm, table, context), discriminator_gap(table)
    return {
        **entropy_by_type(table),
        **entropy_by_turn(table),
        **quadrants(pull, gap),
        "entropy/predicted_delta_logit": logit_delta(pull, gap),
    }


def policy_pull(algorithm: Algorithm, table: TokenTable, context: Context) -> Tensor:
    """Return -dL/dlp of the policy loss over the whole batch at the policy before the update, [N] float64, nats^-1.

    Positive where the update makes the sampled token likelier. It includes bounds, filters and weights, but not
    the regularisers.
    """
    logprobs = table.columns["old_logprobs"].detach().to(torch.float64, copy=True).requires_grad_()
    weights = minibatch_weights(algorithm, table, torch.ones_like(table.columns["old_logprobs"]), context)
    units: set[Unit] = {algorithm.ratio.unit, algorithm.ratio.clip_unit}
    log_ratios: dict[Unit, Tensor] = {
        unit: unit_log_ratio(algorithm, table, logprobs.detach(), unit) for unit in units if unit != "token"
    }
    objective = Objective(algorithm, table, weights, is_fresh=False, unit_log_ratios=log_ratios)
    everything = torch.arange(table.num_tokens, device=logprobs.device)
    with torch.enable_grad():
        losses, _ = algorithm.surrogate.fn(objective.inputs(Scores(logprobs, {}), everything))
        loss = (losses * weights.policy).sum()
        (gradient,) = torch.autograd.grad(loss, logprobs)
    return -gradient


def discriminator_gap(table: TokenTable) -> Tensor:
    """Return d = S_k - N of the sampled tokens k, nats, [N] float64: positive where making k likelier lowers the
    entropy.
    """
    return discriminator(table) - table.columns[MEAN_DISCRIMINATOR.name].double()


def dropped_fraction(table: TokenTable) -> float:
    """Return share of tokens that filters exclude from training, auxiliary tokens left out."""
    main = table.token_column(AUXILIARY) == 0
    return float((table.columns["mask"][main] == 0).double().mean()) if main.any() else 0.0


def logit_delta(pull: Tensor, gap: Tensor) -> float:
    """Return the paper's estimate of the mean change of entropy, -sum pull x D, for a step of size 1 on the logits
    themselves.

    It treats positions as if they shared no weights. The paper leaves the step size open.
    """
    return -float((pull * gap).sum())


def quadrants(pull: Tensor, gap: Tensor) -> dict[str, float]:
    """Return shares of the tokens, and of the summed |predicted change of entropy|, by the signs of A (of the pull)
    and of D.

    Over the tokens whose predicted change is not exactly 0; {} without any. `pos_pos` and `neg_neg` lower the entropy,
    `pos_neg` and `neg_pos` raise it.
    """
    change = (pull * gap).abs()
    live = change > 0
    num, total = live.sum(), change.sum()
    if not num:
        return {}
    metrics = {}
    for sign, chosen in (("pos", pull > 0), ("neg", pull < 0)):
        for side, here in (("pos", gap > 0), ("neg", gap < 0)):
            inside = chosen & here & live
            metrics[f"entropy/quadrant_tokens_{sign}_{side}"] = float(inside.sum() / num)
            metrics[f"entropy/quadrant_change_{sign}_{side}"] = float(change[inside].sum() / total)
    return metrics


def entropy_by_type(table: TokenTable) -> dict[str, float]:
    """Return mean entropy over the tokens of each task type, nats; types without a name are left out."""
    metrics: dict[str, float] = {}
    for name in sorted(set(table.task_types) - {""}):
        is_type = torch.tensor([kind == name for kind in table.task_types], device=table.trajectory.device)
        metrics |= _mean_entropy(table, f"entropy/type_{name}", is_type[table.trajectory])
    return metrics


def entropy_by_turn(table: TokenTable) -> dict[str, float]:
    """Return mean entropy over the tokens of the turns in each bucket of `TURN_BUCKETS`, nats; empty buckets are left
    out.
    """
    position = table.token_column("position")
    metrics: dict[str, float] = {}
    for name, (first, last) in TURN_BUCKETS.items():
        metrics |= _mean_entropy(table, f"entropy/turn_{name}", (position >= first) & (position <= last))
    return metrics


def _mean_entropy(table: TokenTable, key: str, chosen: Tensor) -> dict[str, float]:
    inside = chosen & (table.token_column(AUXILIARY) == 0)
    return {key: float(table.columns[ENTROPY.name][inside].double().mean())} if inside.any() else {}
