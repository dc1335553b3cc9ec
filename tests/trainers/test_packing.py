from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.trainers.packing import pack
from agentgym_rft.trainers.table import Row


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
