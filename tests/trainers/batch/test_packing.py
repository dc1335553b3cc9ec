from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from agentgym_rft.config.run import AlgorithmSection
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.algorithms import build_algorithm
from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY
from agentgym_rft.trainers.algorithms.parts import Context
from agentgym_rft.trainers.batch.packing import deal, minibatches, num_fed, pack
from agentgym_rft.trainers.batch.table import Row
from agentgym_rft.trainers.learner.packed_attention import check_packing
from agentgym_rft.trainers.learner.scoring import decoder_layers, make_scorer, score_rows
from tests.trainers.tiny import CFG, tiny_model, update, value_head


def row(length: int, first: int, num_trained: int = 1) -> Row:
    """Ids 1, 2, ... of which the last `num_trained` are trained."""
    ids = np.arange(1, length + 1)
    index = np.arange(first, first + num_trained)
    return Row(ids, np.arange(length - num_trained, length), index, trajectory=0, group=0)


def test_a_micro_batch_is_laid_out_as_its_docstring_says():
    rows = [Row(np.array([7, 1, 2]), np.array([1, 2]), np.array([0, 1]), 0, 0), row(4, 2, 2)]
    (batch,) = pack(rows, 100)
    assert batch.input_ids.tolist() == [[1, 2, 3], [7, 1, 0]]
    assert batch.predictors.tolist() == [1, 2, 3, 4]
    assert batch.targets.tolist() == [3, 4, 1, 2]
    assert batch.index.tolist() == [2, 3, 0, 1]


def test_a_row_longer_than_the_budget_gets_its_own_micro_batch():
    batches = pack([row(50, 0), row(3, 1), row(3, 2)], 10)
    assert [batch.input_ids.shape for batch in batches] == [(1, 49), (2, 2)]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 200))
def test_every_token_is_packed_once_and_within_the_budget(lengths, budget):
    rows = [row(length, first) for first, length in enumerate(lengths)]
    batches = pack(rows, budget)
    index = np.concatenate([batch.index.numpy() for batch in batches])
    targets = np.concatenate([batch.targets.numpy() for batch in batches])
    assert sorted(index.tolist()) == list(range(len(rows)))
    assert [lengths[i] for i in index] == targets.tolist()
    for batch in batches:
        assert batch.input_ids.numel() <= budget or batch.input_ids.shape[0] == 1
        predicting = batch.input_ids.flatten()[batch.predictors]
        assert (predicting == batch.targets - 1).all()


def test_a_packed_micro_batch_is_laid_out_as_its_docstring_says():
    rows = [Row(np.array([7, 1, 2]), np.array([1, 2]), np.array([0, 1]), 0, 0), row(4, 2, 2)]
    (batch,) = pack(rows, 5, "packed")
    assert batch.input_ids.tolist() == [[1, 2, 3, 7, 1]]
    assert batch.predictors.tolist() == [1, 2, 3, 4]
    assert batch.targets.tolist() == [3, 4, 1, 2]
    assert batch.index.tolist() == [2, 3, 0, 1]
    assert batch.packed.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert [(tile.num_rows, tile.start, tile.num_own) for tile in batch.packed.tiles] == [(1, 0, 3), (1, 0, 2)]
    assert num_fed([batch]) == 5
    assert num_fed(pack(rows, 100)) == 6


@given(st.lists(st.integers(2, 40), max_size=30), st.integers(1, 200), st.integers(1, 5))
def test_processes_share_the_rows_and_make_equally_many_passes(lengths, budget, size):
    rows = [row(length, first) for first, length in enumerate(lengths)]
    shares = [deal(rows, budget, "padded", rank, size) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    index = [i for share in shares for batch in share if batch is not None for i in batch.index.tolist()]
    assert sorted(index) == list(range(len(rows)))
    tokens = [sum(lengths[i] for batch in share if batch is not None for i in batch.index) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


def sliding_model():
    """Two layers with a window of five tokens."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=23, num_key_value_heads=1, sliding_window=5, initializer_range=0.3, **sizes)
    return MistralForCausalLM(config).eval()


def step(model, batch, *, head, **settings):
    """Gradients, metrics and scores of one update with a critic and an entropy bonus."""
    table, rows = batch
    model = copy.deepcopy(model)
    algorithm = build_algorithm(AlgorithmSection(name="ppo" if head else "grpo", entropy_coef=0.1))
    critic = value_head(model) if head else None
    scorer = make_scorer(model, value_head=critic, **settings)
    modules = torch.nn.ModuleList([model, *([critic] if head else [])])
    before = copy.deepcopy(modules.state_dict())
    cfg = CFG.model_copy(update={"learning_rate": 1.0, "logprob_tolerance": 1e9})
    metrics = update(scorer, torch.optim.SGD(modules.parameters()), table, rows, algorithm, cfg, Context())
    return {name: before[name] - weight for name, weight in modules.state_dict().items()}, metrics


@pytest.mark.parametrize(
    "settings", [{"layout": "packed"}, {"recompute": True}, {"layout": "packed", "recompute": True}]
)
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_and_recomputed_layers_change_neither_loss_nor_gradient(batch, settings, head, attention):
    model = tiny_model()
    model.set_attn_implementation(attention)
    expected, metrics = step(model, batch, head=head)
    got, others = step(model, batch, head=head, **settings)
    assert others == pytest.approx(metrics, rel=1e-5, abs=1e-6)
    for name, gradient in expected.items():
        assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_packed_rows_keep_to_a_sliding_window():
    model = sliding_model()
    rng = np.random.default_rng(0)
    lengths = [24, 13, 7, 3]
    rows = []
    for number, length in enumerate(lengths):
        ids = rng.integers(0, 23, length)
        first = sum(n - 1 for n in lengths[:number])
        rows.append(Row(ids, np.arange(1, length), np.arange(first, first + length - 1), number, number))
    plain, packed = make_scorer(model), make_scorer(model, layout="packed")
    got, expected = (score_rows(scorer, rows, 43, 64, (ENTROPY,)) for scorer in (packed, plain))
    torch.testing.assert_close(got.logprobs, expected.logprobs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.columns[ENTROPY.name], expected.columns[ENTROPY.name], rtol=1e-5, atol=1e-5)
    model.config.sliding_window = None
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    unlimited = score_rows(make_scorer(model), rows, 43, 64).logprobs
    assert (unlimited - expected.logprobs).abs().max() > 0.01  # the window matters here


def test_a_model_that_cannot_be_packed_is_refused():
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=23, hidden_size=16, num_hidden_layers=1, state_size=4)).eval()
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    capped = Gemma2ForCausalLM(Gemma2Config(vocab_size=23, num_key_value_heads=1, head_dim=8, **sizes)).eval()
    for model in (mamba, capped):
        before = model.config._attn_implementation
        with pytest.raises(ConfigError, match=r"trainer\.packing=packed.*Write (trainer\.packing=)?padded"):
            check_packing(model)
        assert model.config._attn_implementation == before


def test_recomputed_layers_keep_fewer_activations(batch):
    model = tiny_model()
    assert len(decoder_layers(model)) == 2
    micro_batch = pack(batch[1], 64)[0]
    assert num_kept(model, micro_batch, recompute=True) < num_kept(model, micro_batch, recompute=False) / 2


def num_kept(model, micro_batch, *, recompute):
    """Numbers that a forward pass keeps for the backward pass."""
    scorer, sizes = make_scorer(copy.deepcopy(model), recompute=recompute), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x):
        scorer.score(micro_batch, grad=True)
    assert not any(module.training for module in scorer.model.modules())
    return sum(sizes)


def test_minibatches_deal_whole_groups_once_an_epoch(batch):
    rows = batch[1]
    trainer = CFG.model_copy(update={"num_minibatches": 2, "num_epochs": 3})
    parts = minibatches(rows, trainer, seed=1, step=4)
    assert len(parts) == 6
    for epoch in range(3):
        first, second = parts[2 * epoch : 2 * epoch + 2]
        assert not {row.group for row in first} & {row.group for row in second}
        assert {id(row) for row in first + second} == {id(row) for row in rows}
    again = minibatches(rows, trainer, seed=1, step=4)
    assert [[row.group for row in part] for part in parts] == [[row.group for row in part] for part in again]
    assert len(minibatches(rows, CFG.model_copy(update={"num_minibatches": 99}), seed=0, step=0)) == 3
