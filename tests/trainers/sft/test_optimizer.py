from __future__ import annotations

import pytest
import torch

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.sft.model import build_model
from agentgym_rft.trainers.sft.optimizer import make_optimizer, schedule, set_rates
from tests.light_switch import MODEL


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 0.05), (0.01, 0.5), (0.02, 1.0), (0.6, 1.0), (0.8, 0.5), (1.0, 0.0)]
)
def test_the_learning_rate_warms_up_stays_and_falls_to_zero(progress, factor):
    section = SftSection(warmup_fraction=0.02, cooldown_fraction=0.4)
    assert schedule(progress, section) == pytest.approx(factor)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_weight_is_in_exactly_one_group(name):
    model = build_model(MODEL, 300, seed=0)
    optimizer = make_optimizer(model, SftSection(optimizer=name))
    owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_muon_is_for_hidden_matrices_alone():
    model = build_model(MODEL, 300, seed=0)
    muon, rest = make_optimizer(model, SftSection(learning_rate=0.1, matrix_learning_rate=0.2)).param_groups
    assert all(p.ndim == 2 and p.shape[0] != 300 for p in muon["params"])
    assert (muon["lr"], rest["lr"]) == (0.2, 0.1)


def test_muon_and_adamw_step_as_they_do_by_themselves():
    ours, theirs = build_model(MODEL, 300, seed=0), build_model(MODEL, 300, seed=0)
    section = SftSection(learning_rate=1e-2, matrix_learning_rate=5e-2)
    joint = make_optimizer(ours, section)
    matrices = [p for p in theirs.model.layers.parameters() if p.ndim == 2]
    others = [p for p in theirs.parameters() if all(p is not matrix for matrix in matrices)]
    alone = [
        torch.optim.Muon(matrices, lr=5e-2, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(others, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for _ in range(2):
        for model in (ours, theirs):
            model(input_ids=torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
        set_rates(joint, (5e-2, 1e-2), 1.0)
        for optimizer in (joint, *alone):
            optimizer.step()
            optimizer.zero_grad()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, other)
