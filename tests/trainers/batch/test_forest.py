"""Rows that share prefixes, laid on one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym_rft.trainers.batch.forest import branches, parts, plant
from agentgym_rft.trainers.batch.packing import deal, num_fed, pack
from agentgym_rft.trainers.batch.table import Row


def rows_of(*texts):
    """Rows of ids whose tokens all are trained but the first."""
    rows, first = [], 0
    for number, ids in enumerate(texts):
        index = np.arange(first, first + len(ids) - 1)
        rows.append(Row(np.array(ids), np.arange(1, len(ids)), index, number, number))
        first += len(ids) - 1
    return rows


SHORT_ROWS = st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=12), min_size=1, max_size=12)


def test_a_branch_is_laid_out_as_the_docstring_of_a_tile_says():
    (part,) = parts(branches(rows_of([5, 6, 7, 0], [5, 6, 8, 9, 0])), 100)
    packed, ids, paths = plant(part)
    assert ids.tolist() == [5, 6, 7, 8, 9]
    assert packed.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert [path.tolist() for path in paths] == [[0, 1, 2], [0, 1, 3, 4]]
    root, branch = packed.tiles
    assert (root.num_rows, root.start, root.num_own, root.paths) == (1, 0, 3, None)
    assert (branch.num_rows, branch.start, branch.num_own, branch.paths.tolist()) == (1, 2, 2, [0, 1, 3, 4])


@given(SHORT_ROWS, st.integers(1, 60))
def test_every_prefix_is_fed_once_a_pass_and_every_row_finds_its_tokens(texts, budget):
    rows = rows_of(*texts)
    batches = pack(rows, budget, "packed")
    index = np.concatenate([batch.index.numpy() for batch in batches])
    assert sorted(index.tolist()) == list(range(sum(len(text) - 1 for text in texts)))
    targets = np.concatenate([np.array(text[1:]) for text in texts])
    before = np.concatenate([np.array(text[:-1]) for text in texts])
    for batch in batches:
        assert (batch.targets.numpy() == targets[batch.index]).all()
        assert (batch.input_ids[0, batch.predictors].numpy() == before[batch.index]).all()
    distinct = {tuple(text[: n + 1]) for text in texts for n in range(len(text) - 1)}
    assert num_fed(pack(rows, 10**6, "packed")) == len(distinct)
    assert num_fed(batches) >= len(distinct)


@given(SHORT_ROWS, st.integers(1, 60))
def test_a_pass_keeps_to_its_budget_unless_one_row_is_longer(texts, budget):
    for part in parts(branches(rows_of(*texts)), budget):
        fed = sum(branch.num_own for branch in part)
        assert fed <= budget or fed == part[0].length


@given(SHORT_ROWS)
def test_every_token_sees_exactly_the_path_to_it(texts):
    (part,) = parts(branches(rows_of(*texts)), 10**6)
    packed, ids, paths = plant(part)
    seen = {}
    end = 0
    for tile in packed.tiles:
        begin, end = end, end + tile.num_rows * tile.num_own
        own = np.arange(begin, end).reshape(tile.num_rows, tile.num_own)
        keys = own if tile.paths is None else tile.paths.numpy().reshape(tile.num_rows, -1)
        for line, path in zip(own.tolist(), keys.tolist(), strict=True):
            seen |= {token: path[: tile.start + place + 1] for place, token in enumerate(line)}
    assert set(seen) == set(range(len(ids)))
    for path in paths:
        for depth, token in enumerate(path.tolist()):
            assert seen[token] == path[: depth + 1].tolist()


@given(SHORT_ROWS, st.integers(2, 4), st.integers(1, 60))
def test_processes_share_branches_and_make_equally_many_passes(texts, size, budget):
    rows = rows_of(*texts)
    shares = [deal(rows, budget, "packed", rank, size) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    index = [i for share in shares for batch in share if batch is not None for i in batch.index.tolist()]
    assert sorted(index) == list(range(sum(len(text) - 1 for text in texts)))


def test_processes_get_about_equally_many_tokens():
    rng = np.random.default_rng(0)
    texts = [[*range(50), *rng.integers(50, 90, 40), 0] for _ in range(20)]
    fed = [num_fed([batch for batch in deal(rows_of(*texts), 10**6, "packed", r, 2) if batch]) for r in range(2)]
    assert fed == pytest.approx([450, 450], rel=0.15)
    assert sum(fed) <= num_fed(pack(rows_of(*texts), 10**6, "packed")) + 60  # the prefix again, and little more


def test_rows_of_one_shape_are_one_tile():
    texts = [[1, 2, 3, 4, 0], [1, 2, 5, 6, 0], [1, 2, 7, 8, 0], [9, 2, 3, 4, 0], [1, 2, 3, 4, 0]]
    (part,) = parts(branches(rows_of(*texts)), 100)
    packed, ids, _ = plant(part)
    assert [(tile.num_rows, tile.start, tile.num_own) for tile in packed.tiles] == [(2, 0, 4), (2, 2, 2)]
    assert ids.tolist() == [1, 2, 3, 4, 9, 2, 3, 4, 5, 6, 7, 8]
    assert packed.longest == 4
