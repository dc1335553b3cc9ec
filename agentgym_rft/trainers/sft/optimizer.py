"""Optimizers of imitation, and their learning rates: Muon for a model from scratch, AdamW for a pretrained one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.learner.optimizer import BETAS, make_adamw


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the hidden matrices and AdamW for embeddings, norms and biases, as one optimizer."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._parts = (muon, adamw)
        for part in self._parts:  # one state, which checkpoints save and put back
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take the step of both."""
        for part in self._parts:
            part.step()  # type: ignore[no-untyped-call]  # of Muon


def make_optimizer(model: nn.Module, section: SftSection) -> torch.optim.Optimizer:
    """Return the optimizer that the section asks for, over the trainable weights of the model."""
    if section.optimizer == "muon":
        return _muon(model, section)
    return make_adamw(model, section.learning_rate)


def _muon(model: nn.Module, section: SftSection) -> torch.optim.Optimizer:
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [(name, p) for name, p in named if p.ndim == 2 and id(p) not in embeddings]
    others = [(name, p) for name, p in named if p.ndim != 2 or id(p) in embeddings]
    muon = torch.optim.Muon(matrices, lr=section.matrix_learning_rate, momentum=0.95, weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=section.learning_rate, betas=BETAS, weight_decay=0.0)
    return MuonAndAdamW(muon, adamw)


def schedule(progress: float, section: SftSection) -> float:
    """Return factor of the learning rate at a share of the token budget: warm-up, constant, linear to zero."""
    if progress < section.warmup_fraction:
        return max(progress / section.warmup_fraction, 0.05)
    if progress > 1 - section.cooldown_fraction:
        return max((1 - progress) / section.cooldown_fraction, 0.0)
    return 1.0


def set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float], factor: float) -> None:
    """Use these learning rates of the parameter groups, times a factor, from now on."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
