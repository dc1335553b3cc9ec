"""Deals rows out to optimizer steps, and splits them into micro-batches under a budget of tokens for each process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.config.run import TrainerSection
from agentgym_rft.trainers.batch.table import Row

Layout = Literal["padded", "packed"]


@dataclass(frozen=True, slots=True)
class Packed:
    """The places of a packed micro-batch's tokens in padded rows of `shape` (rows, longest row), flattened.

    Example: rows of 3 and 2 tokens -> `shape` (2, 3), `places` [0 1 2 3 4], `positions` [[0 1 2 0 1]].
    """

    positions: Tensor  # int64 [1, T], of each token in its own row
    places: Tensor  # int64 [T], into the flattened [rows * longest]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass. Right padding needs no attention mask: a causal model's real tokens never see it.

    Example: rows [c a a] and [c c a a] with trained a's -> `input_ids` [[c a 0] [c c a]] (a row's last token is only
    a target), `predictors` [0 1 4 5] (flat positions whose outputs predict `targets`), `index` their table entries.
    Packed it is [[c c a c a]] with `predictors` [1 2 3 4], the longest row first.
    """

    input_ids: Tensor  # int64 [B, L]; [1, T] packed
    predictors: Tensor  # int64 [K], into the flattened outputs
    targets: Tensor  # int64 [K]
    index: Tensor  # int64 [K]
    packed: Packed | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """Return the same batch on another device."""
        packed = self.packed
        if packed is not None:
            packed = Packed(packed.positions.to(device), packed.places.to(device), packed.shape)
        return MicroBatch(
            self.input_ids.to(device),
            self.predictors.to(device),
            self.targets.to(device),
            self.index.to(device),
            packed,
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
    """Return all rows in micro-batches of at most `micro_batch_tokens` tokens, padding included, longest first.

    A row that is longer than the budget gets a micro-batch of its own.
    """
    collate = _collate if layout == "padded" else _collate_packed
    return [collate(part) for part in _split(rows, micro_batch_tokens, layout)]


def deal(rows: Sequence[Row], micro_batch_tokens: int, layout: Layout, rank: int, size: int) -> list[MicroBatch | None]:
    """Return the micro-batches of one of `size` processes; None stands for a pass without rows.

    Rows are dealt in order of their length, so that all processes have about as many tokens, and get equally many
    passes.
    """
    if size == 1:
        return list(pack(rows, micro_batch_tokens, layout))
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    num_passes = max(sum(1 for _ in _split(ordered[r::size], micro_batch_tokens, layout)) for r in range(size))
    own = pack(ordered[rank::size], micro_batch_tokens, layout)
    return [*own, *([None] * (num_passes - len(own)))]


def padding_fraction(batches: Sequence[MicroBatch], rows: Sequence[Row]) -> float:
    """Return share of padding among the tokens that are fed in `batches`."""
    fed = sum(batch.input_ids.numel() for batch in batches)
    return 1 - sum(len(row.ids) - 1 for row in rows) / max(fed, 1)


def _split(rows: Sequence[Row], budget: int, layout: Layout) -> Iterator[list[Row]]:
    """Deal rows to batches with neighbours in length, so that little of the budget is padding."""
    part: list[Row] = []
    used = 0
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        cost = len(row.ids) - 1 if layout == "packed" or not part else len(part[0].ids) - 1
        if part and used + cost > budget:
            yield part
            part, used = [], 0
            cost = len(row.ids) - 1
        part.append(row)
        used += cost
    if part:
        yield part


def _collate(rows: Sequence[Row]) -> MicroBatch:
    width = max(len(row.ids) for row in rows) - 1
    input_ids = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        input_ids[number, : len(row.ids) - 1] = row.ids[:-1]
    starts = [number * width for number in range(len(rows))]
    return _micro_batch(rows, torch.from_numpy(input_ids), starts, None)


def _collate_packed(rows: Sequence[Row]) -> MicroBatch:
    lengths = [len(row.ids) - 1 for row in rows]
    width = max(lengths)
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    positions = np.concatenate([np.arange(length) for length in lengths])
    places = positions + np.repeat(np.arange(len(rows)) * width, lengths)
    packed = Packed(torch.from_numpy(positions)[None], torch.from_numpy(places), (len(rows), width))
    return _micro_batch(rows, torch.from_numpy(np.concatenate([row.ids[:-1] for row in rows]))[None], starts, packed)


def _micro_batch(rows: Sequence[Row], input_ids: Tensor, starts: Sequence[int], packed: Packed | None) -> MicroBatch:
    predictors = [start + row.positions - 1 for start, row in zip(starts, rows, strict=True)]
    return MicroBatch(
        input_ids=input_ids,
        predictors=torch.from_numpy(np.concatenate(predictors)),
        targets=torch.from_numpy(np.concatenate([row.ids[row.positions] for row in rows])),
        index=torch.from_numpy(np.concatenate([row.index for row in rows])),
        packed=packed,
    )
