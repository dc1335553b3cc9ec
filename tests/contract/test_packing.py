"""Packed rows, with their shared beginnings once, give every algorithm and control what padded rows give."""

from __future__ import annotations

import pytest
import torch

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.trainers.algorithms import ALGORITHMS, build_algorithm
from agentgym_rft.trainers.batch.packing import num_fed, pack
from agentgym_rft.trainers.batch.table import build_table
from tests.contract.test_controls import CASES, SEVERAL, controlled
from tests.trainers.tiny import alike, step, tiny_groups, tiny_model

MODES = {"one step": {}, "minibatches and epochs": SEVERAL, "recomputed": {"gradient_checkpointing": True}}
CUT, WHOLE = 13, 10**6  # tokens of a pass: most trees are cut, or none is


@pytest.fixture(scope="module")
def batch():
    torch.set_num_threads(1)
    model = tiny_model()
    table, rows = build_table([alike(group) for group in tiny_groups(model)], 0)
    fed = {tokens: num_fed(pack(rows, tokens, "packed")) for tokens in (CUT, WHOLE)}
    assert fed[WHOLE] < fed[CUT] <= sum(len(row.ids) - 1 for row in rows)
    assert fed[WHOLE] < 0.8 * num_fed(pack(rows, WHOLE))
    return model, table, rows


def assert_same(batch, algorithm, **settings):
    model, table, rows = batch
    expected, metrics = step(model, table, rows, algorithm(), **settings)
    assert expected.norm() > 0
    for tokens in (CUT, WHOLE):
        got, own = step(model, table, rows, algorithm(), packing="packed", micro_batch_tokens=tokens, **settings)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        assert own == pytest.approx(metrics, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_packing_changes_no_algorithm(batch, name, mode):
    assert_same(batch, lambda: build_algorithm(AlgorithmSection(name=name, entropy_coef=0.01)), **MODES[mode])


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_packing_changes_no_control(batch, name, unit):
    assert_same(batch, lambda: controlled(name, unit), **SEVERAL)
