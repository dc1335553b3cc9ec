"""Pseudo-random numbers for tokens: they depend on the token and its trajectory, not on their place in the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.table import TokenTable, segment_sum

# SplitMix64's constants (Steele, Lea and Flood 2014) as signed 64-bit numbers; torch multiplies modulo 2^64.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST = 0xBF58476D1CE4E5B9 - 2**64
SECOND = 0x94D049BB133111EB - 2**64
TURN_STRIDE = 2**20


def token_draws(table: TokenTable, context: Context) -> Tensor:
    """Return a pseudo-random int64 for each token, [N]: to choose among tokens without looking at the order of the
    batch.

    It hashes seed, step, the token's turn number, place in the turn and sampled log-prob, and the same of all tokens of
    its trajectory. The sampled log-probs are data, so that the numbers are the same whatever the micro-batches that
    scored the batch. Tokens of two trajectories that are the same throughout share their number.
    """
    counts = torch.bincount(table.turn, minlength=table.num_turns)
    place = torch.arange(table.num_tokens, device=table.turn.device) - (counts.cumsum(0) - counts)[table.turn]
    place = place + TURN_STRIDE * table.token_column("position").long()
    token = _mixed(table.columns["behaviour_logprobs"].float().contiguous().view(torch.int32).long() ^ _mixed(place))
    trajectory = segment_sum(token, table.trajectory, table.num_trajectories)[table.trajectory]
    key = _mixed(torch.tensor([context.seed, context.step], device=table.turn.device))
    return _mixed(_mixed(_mixed(token + _mixed(trajectory)) ^ key[0]) + key[1])


def _mixed(values: Tensor) -> Tensor:
    """Return SplitMix64's finaliser, elementwise."""
    values = values + GOLDEN
    values = (values ^ _shifted(values, 30)) * FIRST
    values = (values ^ _shifted(values, 27)) * SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Return logical shift to the right; torch's is arithmetic."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
