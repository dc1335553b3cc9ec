"""AdamW with warm-up and clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.errors import NumericsError

BETAS = (0.9, 0.95)  # of AdamW


def make_optimizer(model: nn.Module, cfg: TrainerSection) -> torch.optim.AdamW:
    """Return AdamW with the learning rate and the weight decay of a run."""
    return make_adamw(model, cfg.learning_rate, cfg.weight_decay)


def make_adamw(model: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """Return AdamW over the trainable weights of `model`; weight decay only on matrices, not on norms and biases."""
    weights = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups = [
        {"params": [pair for pair in weights if pair[1].ndim >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in weights if pair[1].ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def learning_rate(step: int, cfg: TrainerSection) -> float:
    """Return learning rate of a step (from 0): linear over `warmup_steps` steps below the peak, then the peak."""
    return cfg.learning_rate * min(1.0, (step + 1) / (cfg.warmup_steps + 1))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use this learning rate for every parameter group from now on."""
    for group in optimizer.param_groups:
        group["lr"] = value


def clipped_step(
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float,
    advice: str = "Lower trainer.learning_rate or look at the last batch.",
) -> float:
    """Clip the gradients to a total norm, take one step, clear them; returns the norm before clipping.

    Args:
        advice: what to do if that norm or a weight is not finite, as a sentence.
    Raises:
        NumericsError: the norm is not finite, and the weights are unchanged; or a weight is not finite after the step.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    total = nn.utils.clip_grad_norm_(weights, max_grad_norm)
    norm = _number(total)
    if not math.isfinite(norm):
        raise NumericsError(f"The gradient norm is {norm}. {advice}")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if not are_finite(weights):
        raise NumericsError(f"After the update a weight is no finite number. {advice}")
    return norm


def are_finite(weights: Sequence[torch.Tensor]) -> bool:
    """Return False if a number in the weights is not finite. It reads them once, which a step does many times."""
    own = [weight.detach() for weight in weights]
    return any(math.isfinite(_number(nn.utils.get_total_norm(own, order))) for order in (2.0, math.inf))


def _number(norm: torch.Tensor) -> float:
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
