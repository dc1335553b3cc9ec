"""Deals rows out to optimizer steps, and splits them into micro-batches under a budget of tokens for each process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.trainers.batch.forest import Branch, Packed, branches, parts, plant
from agentgym_rft.trainers.batch.table import Row

Layout = Literal["padded", "packed"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass. Right padding needs no attention mask: a causal model's real tokens never see it.

    Example: rows [c a a] and [c c a a] with trained a's -> `input_ids` [[c a 0] [c c a]] (a row's last token is only
    a target), `predictors` [0 1 4 5] (flat positions whose outputs predict `targets`), `index` their table entries.
    Packed it is [[c c a c a]] with `predictors` [1 2 3 4], and [[c c a a]] if the rows begin with the same c, see
    `forest.py`.
    """

    input_ids: Tensor  # int64 [B, L]; [1, T] packed
    predictors: Tensor  # int64 [K], into the flattened outputs
    targets: Tensor  # int64 [K]
    index: Tensor  # int64 [K]
    packed: Packed | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """Return the same batch on another device."""
        return MicroBatch(
            self.input_ids.to(device),
            self.predictors.to(device),
            self.targets.to(device),
            self.index.to(device),
            None if self.packed is None else self.packed.to(device),
        )


def minibatches(rows: Sequence[Row], trainer: TrainerSection, *, seed: int, step: int) -> list[list[Row]]:
    """Return the rows of each optimizer step: every epoch deals whole groups, shuffled, into near-equal parts.

    With fewer groups than `num_minibatches` there are as many minibatches as groups.
    """
    num_minibatches = trainer.num_minibatches
    groups = sorted({row.group for row in rows})
    parts: list[list[Row]] = []
    for epoch in range(trainer.num_epochs):
        order = groups
        if num_minibatches > 1:
            random = np.random.default_rng([seed, step, epoch])
            order = [groups[i] for i in random.permutation(len(groups))]
        for number in range(min(num_minibatches, len(groups))):
            chosen = set(order[number::num_minibatches])
            parts.append([row for row in rows if row.group in chosen])
    return parts


def pack(rows: Sequence[Row], micro_batch_tokens: int, layout: Layout = "padded") -> list[MicroBatch]:
    """Return all rows in micro-batches of at most `micro_batch_tokens` tokens, padding included.

    A row that is longer than the budget gets a micro-batch of its own.
    """
    if layout == "packed":
        return [_collate_packed(part) for part in parts(branches(rows), micro_batch_tokens)]
    return [_collate(part) for part in _split(rows, micro_batch_tokens)]


def deal(rows: Sequence[Row], micro_batch_tokens: int, layout: Layout, rank: int, size: int) -> list[MicroBatch | None]:
    """Return the micro-batches of one of `size` processes; None stands for a pass without rows.

    All processes have about as many tokens and equally many passes.
    """
    if size == 1:
        return list(pack(rows, micro_batch_tokens, layout))
    shares = _packed_shares(rows, size) if layout == "packed" else _padded_shares(rows, size)
    batches = [pack(share, micro_batch_tokens, layout) for share in shares]
    own = batches[rank]
    return [*own, *([None] * (max(map(len, batches)) - len(own)))]


def num_fed(batches: Sequence[MicroBatch]) -> int:
    """Return number of tokens that `batches` feed, padding included."""
    return sum(batch.input_ids.numel() for batch in batches)


def _padded_shares(rows: Sequence[Row], size: int) -> list[list[Row]]:
    """Deal rows to processes in order of their length."""
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    return [ordered[rank::size] for rank in range(size)]


def _packed_shares(rows: Sequence[Row], size: int) -> list[list[Row]]:
    """Deal neighbours among the branches to each process, so that few prefixes are fed by more than one."""
    shares: list[list[Row]] = [[] for _ in range(size)]
    found = branches(rows)
    total, before = sum(branch.num_own for branch in found), 0
    for branch in found:
        shares[min(before * size // max(total, 1), size - 1)].append(branch.row)
        before += branch.num_own
    return shares


def _split(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Deal rows to batches with neighbours in length, longest first, so that little of the budget is padding."""
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        if part and (len(part) + 1) * (len(part[0].ids) - 1) > budget:
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _collate(rows: Sequence[Row]) -> MicroBatch:
    width = max(len(row.ids) for row in rows) - 1
    input_ids = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        input_ids[number, : len(row.ids) - 1] = row.ids[:-1]
    predictors = [number * width + row.positions - 1 for number, row in enumerate(rows)]
    return _micro_batch(rows, torch.from_numpy(input_ids), predictors, None)


def _collate_packed(part: Sequence[Branch]) -> MicroBatch:
    packed, ids, paths = plant(part)
    rows = [branch.row for branch in part]
    predictors = [path[row.positions - 1] for path, row in zip(paths, rows, strict=True)]
    return _micro_batch(rows, torch.from_numpy(ids)[None], predictors, packed)


def _micro_batch(
    rows: Sequence[Row], input_ids: Tensor, predictors: Sequence[np.ndarray], packed: Packed | None
) -> MicroBatch:
    return MicroBatch(
        input_ids=input_ids,
        predictors=torch.from_numpy(np.concatenate(predictors)),
        targets=torch.from_numpy(np.concatenate([row.ids[row.positions] for row in rows])),
        index=torch.from_numpy(np.concatenate([row.index for row in rows])),
        packed=packed,
    )
