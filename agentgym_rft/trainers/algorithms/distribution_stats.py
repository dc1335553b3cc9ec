"""Statistics of the whole next-token distribution, one number for each position; entropy controls use them.

The scorer computes them from the logits, in chunks, in at least float32, and only those that an algorithm names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DistributionStat:
    """A column computed from log-probs and probs [k, V] -> [k]. `name` is the column's name.

    With `uses_teacher` the function gets the teacher's log-probs [k, V], too, which carry no gradient.
    """

    name: str
    fn: Callable[..., Tensor]
    uses_teacher: bool = False


def entropy(log_probs: Tensor, probs: Tensor) -> Tensor:
    """Return h = -sum p ln p, nats, [k]."""
    return -(probs * log_probs).sum(-1)


def mean_discriminator(log_probs: Tensor, probs: Tensor) -> Tensor:
    """Return n = E_p[S] = sum p^2 (H + ln p) with the discriminator S_i = p_i (H + ln p_i), nats, [k].

    Source: arXiv 2602.03392, theorem 3.3.
    """
    squares = probs.square()
    return entropy(log_probs, probs) * squares.sum(-1) + (squares * log_probs).sum(-1)


def max_prob(log_probs: Tensor, probs: Tensor) -> Tensor:
    """Return the largest probability, [k]."""
    return probs.amax(-1)


def nucleus_entropy(top_p: float) -> DistributionStat:
    """Entropy of the renormalised nucleus: the smallest set of top tokens whose mass reaches `top_p`, nats.

    The token that crosses `top_p` is inside, as in nucleus sampling; SIREN's released code leaves it out.
    Source: SIREN, arXiv 2509.25133.
    """

    def fn(log_probs: Tensor, probs: Tensor) -> Tensor:
        ranked, order = probs.sort(-1, descending=True)
        inside = ranked.cumsum(-1) - ranked < top_p
        mass = (ranked * inside).sum(-1)
        plogp = (ranked * log_probs.gather(-1, order) * inside).sum(-1)
        return mass.log() - plogp / mass

    return DistributionStat(f"nucleus_entropy_{top_p}", fn)


def kept_mass(kappa: float) -> DistributionStat:
    """Return probability mass of the tokens above `kappa` times the largest probability.
    Source: Lp-Reg, arXiv 2510.03222.
    """

    def fn(log_probs: Tensor, probs: Tensor) -> Tensor:
        is_kept = probs > kappa * probs.amax(-1, keepdim=True)
        return torch.where(is_kept, probs, 0.0).sum(-1)

    return DistributionStat(f"kept_mass_{kappa}", fn)


ENTROPY = DistributionStat("entropy", entropy)
MEAN_DISCRIMINATOR = DistributionStat("mean_discriminator", mean_discriminator)
MAX_PROB = DistributionStat("max_prob", max_prob)

DISTRIBUTION_STATS = {
    distribution_stat.name: distribution_stat for distribution_stat in (ENTROPY, MEAN_DISCRIMINATOR, MAX_PROB)
}
VALUE = "value"  # column of a critic's value head, which the scorer reads from the hidden state
