from __future__ import annotations

import numpy as np
import pytest

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.sft.batches import batches, make_batch
from agentgym_rft.trainers.sft.rows import SftRow


def row(ids, actions, weights=None):
    return SftRow(np.array(ids), np.array(actions, bool), None if weights is None else np.array(weights, np.float32))


def test_a_batch_predicts_what_weighs_something_and_ends_rows_there():
    batch = make_batch([row([5, 6, 7, 8], [0, 0, 1, 0]), row([9, 10], [0, 1])], context_weight=0.0)
    assert [r.ids.tolist() for r in batch.rows] == [[5, 6, 7], [9, 10]]
    assert [r.positions.tolist() for r in batch.rows] == [[2], [1]]
    assert [r.index.tolist() for r in batch.rows] == [[0], [1]]
    assert batch.weights.tolist() == [1.0, 1.0]
    assert batch.is_action.tolist() == [True, True]
    assert (batch.num_tokens, batch.num_read) == (2, 6)


def test_context_counts_as_trained_where_it_weighs_something():
    batch = make_batch([row([5, 6, 7], [0, 0, 1])], context_weight=0.25)
    assert batch.weights.tolist() == [0.25, 1.0]  # the first token is predicted from nothing
    assert batch.is_action.tolist() == [False, True]
    assert batch.num_tokens == 3


def test_rows_with_and_without_weights_share_a_batch():
    batch = make_batch([row([1, 2], [0, 1]), row([3, 4], [1, 1], [1.0, 0.5]), row([5, 6], [0, 1], [0.0, 0.0])], 0.25)
    assert batch.weights.tolist() == [1.0, 0.5]
    assert len(batch.rows) == 2  # nothing of the third is trained


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_batches_hold_every_row_once_within_the_token_budget(layout):
    rng = np.random.default_rng(0)
    rows = [row(np.full(n, i), np.ones(n)) for i, n in enumerate(rng.integers(2, 40, 512))]
    seen: list[int] = []
    for batch in batches(iter(rows), SftSection(batch_tokens=100), layout, seed=0):
        lengths = [len(r.ids) for r in batch.rows]
        assert (len(lengths) * max(lengths) if layout == "padded" else sum(lengths)) <= 100
        seen += [int(r.ids[0]) for r in batch.rows]
    assert sorted(seen) == list(range(512))
    if layout == "packed":
        assert seen == list(range(512))  # in the order of the stream


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own():
    rows = [row(np.zeros(n, int), np.ones(n)) for n in (3, 50, 3)]
    made = batches(iter(rows), SftSection(batch_tokens=10), "packed", seed=0)
    assert [[len(r.ids) for r in batch.rows] for batch in made] == [[3], [50], [3]]
