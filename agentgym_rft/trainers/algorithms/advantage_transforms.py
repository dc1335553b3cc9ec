"""Advantage transforms: stages that change the advantage of single tokens after the baseline was subtracted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from agentgym_rft.trainers.algorithms.credit import whitened
from agentgym_rft.trainers.algorithms.parts import Context, Stage
from agentgym_rft.trainers.algorithms.units import Unit, unit_mean
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

ADVANTAGE = frozenset({"advantage"})


def whiten() -> Stage:
    """Return the advantage with mean 0 and variance 1 over the batch's counted tokens; zeros if they are all equal.

    The variance has the divisor n - 1, as in verl; the paper does not name it.
    Source: REINFORCE++, arXiv 2501.03262 (global advantage normalisation).
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        values = whitened(table.columns["advantage"].double(), table.columns["counted"] > 0)
        return {"advantage": values.float()}

    return Stage("whiten", fn, ADVANTAGE, ADVANTAGE)


def kl_to_go(coef: float) -> Stage:
    """Return the advantage minus coef * sum of (old_logprobs - ref_logprobs) from the token to the end of its
    trajectory.

    It is the KL penalty as part of the reward, so that a token also answers for what it leads to. Nats.
    Source: REINFORCE++, arXiv 2501.03262 (token-level KL penalty).
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        kl = table.columns["old_logprobs"].double() - table.columns["ref_logprobs"].double()
        ends = segment_sum(kl, table.trajectory, table.num_trajectories).cumsum(0)[table.trajectory]
        to_go = ends - kl.cumsum(0) + kl  # tokens lie trajectory by trajectory
        return {"advantage": (table.columns["advantage"].double() - coef * to_go).float()}

    return Stage("kl_to_go", fn, frozenset({"advantage", "old_logprobs", "ref_logprobs"}), ADVANTAGE)


def behaviour_weight(cap: float, unit: Unit) -> Stage:
    """Return the advantage times w = min(exp(old_logprobs - behaviour_logprobs), cap), of a unit's mean log-ratio.

    With the ratio to the old policy this is the decoupled objective w min(r A, clip(r) A): it corrects for the sampler
    having been another policy (stale, or with other numerics) and keeps the bounds around the old one.
    Source: AReaL, arXiv 2505.24298 (decoupled PPO objective), with the weight truncated.
    """

    def fn(table: TokenTable, context: Context) -> Mapping[str, Tensor]:
        log_weight = unit_mean(table.columns["old_logprobs"] - table.columns["behaviour_logprobs"], table, unit)
        return {"advantage": (table.columns["advantage"] * log_weight.exp().clamp_max(cap)).float()}

    return Stage("behaviour_weight", fn, frozenset({"advantage", "old_logprobs", "behaviour_logprobs"}), ADVANTAGE)
