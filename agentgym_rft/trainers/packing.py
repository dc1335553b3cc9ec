"""Rows -> micro-batches: right-padded causal batches under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.trainers.table import Row


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass. Right padding needs no attention mask: a causal model's real tokens never see it.

    Example: rows [c a a] and [c c a a] with trained a's -> `input_ids` [[c a 0] [c c a]] (a row's last token is only
    a target), `predictors` [0 1 4 5] (flat positions whose outputs predict `targets`), `index` their table entries.
    """

    input_ids: Tensor  # int64 [B, L]
    predictors: Tensor  # int64 [K], into the flattened [B * L] outputs
    targets: Tensor  # int64 [K]
    index: Tensor  # int64 [K]

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on another device."""
        return MicroBatch(
            self.input_ids.to(device), self.predictors.to(device), self.targets.to(device), self.index.to(device)
        )


def pack(rows: Sequence[Row], micro_batch_tokens: int) -> list[MicroBatch]:
    """All rows in micro-batches of at most `micro_batch_tokens` padded tokens, longest first.

    A row that is longer than the budget gets a micro-batch of its own.
    """
    return [_collate(part) for part in _split(rows, micro_batch_tokens)]


def _split(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Neighbours in length share a batch, so little of the budget is padding."""
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
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids),
        predictors=torch.from_numpy(np.concatenate(predictors)),
        targets=torch.from_numpy(np.concatenate([row.ids[row.positions] for row in rows])),
        index=torch.from_numpy(np.concatenate([row.index for row in rows])),
    )
