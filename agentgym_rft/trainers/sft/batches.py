"""Batches of an optimizer step: rows of tokens under a budget, and the weights of the tokens that are predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from agentgym_rft.config.sft import SftSection
from agentgym_rft.trainers.batch.packing import Layout
from agentgym_rft.trainers.batch.table import Row
from agentgym_rft.trainers.sft.rows import SftRow

POOL_ROWS = 512


@dataclass(frozen=True, slots=True)
class SftBatch:
    """The rows of an optimizer step, without what comes after their last predicted token.

    Example: rows [c c a] and [c a c] with a context weight of 0 -> `rows` of 3 and 2 ids, `weights` [1 1].
    """

    rows: Sequence[Row]  # `positions` are the predicted tokens, `index` their places in the two columns below
    weights: Tensor  # float32 [N]
    is_action: Tensor  # bool [N]
    num_tokens: int  # tokens that weigh something, first tokens of rows included
    num_read: int  # tokens of all rows


def make_batch(rows: Sequence[SftRow], context_weight: float) -> SftBatch:
    """Return rows as the batch of one optimizer step. A first token is predicted from nothing, so it has no loss."""
    made: list[Row] = []
    weights: list[np.ndarray] = []
    is_action: list[np.ndarray] = []
    num_tokens = first = 0
    for number, row in enumerate(rows):
        given = np.where(row.is_action, 1.0, context_weight) if row.weights is None else row.weights
        num_tokens += int((given > 0).sum())
        positions = 1 + np.flatnonzero(given[1:] > 0)
        if not len(positions):
            continue
        index = np.arange(first, first + len(positions))
        made.append(Row(row.ids[: positions[-1] + 1], positions, index, trajectory=number, group=number))
        weights.append(given[positions])
        is_action.append(row.is_action[positions])
        first += len(positions)
    return SftBatch(
        made,
        torch.from_numpy(np.concatenate(weights or [np.zeros(0)]).astype(np.float32)),
        torch.from_numpy(np.concatenate(is_action or [np.zeros(0, bool)])),
        num_tokens,
        sum(len(row.ids) for row in rows),
    )


def batches(rows: Iterator[SftRow], section: SftSection, layout: Layout, seed: int) -> Iterator[SftBatch]:
    """Yield the batches of a stream of rows, each of at most `batch_tokens` tokens; one longer row is a batch, too.

    Packed rows come in their own order. Of padded ones a pool is sorted by length, so that little is padding, which
    counts; the order of its batches is shuffled.
    """
    dealt = _packed(rows, section.batch_tokens) if layout == "packed" else _padded(rows, section.batch_tokens, seed)
    for part in dealt:
        batch = make_batch(part, section.context_weight)
        if batch.rows:
            yield batch


def _packed(rows: Iterator[SftRow], budget: int) -> Iterator[list[SftRow]]:
    part: list[SftRow] = []
    used = 0
    for row in rows:
        if part and used + len(row.ids) > budget:
            yield part
            part, used = [], 0
        part.append(row)
        used += len(row.ids)
    if part:
        yield part


def _padded(rows: Iterator[SftRow], budget: int, seed: int) -> Iterator[list[SftRow]]:
    rng = np.random.default_rng(seed)
    while pool := sorted(islice(rows, POOL_ROWS), key=lambda row: len(row.ids)):
        parts: list[list[SftRow]] = [[]]
        for row in pool:
            if parts[-1] and (len(parts[-1]) + 1) * len(row.ids) > budget:
                parts.append([])
            parts[-1].append(row)
        for index in rng.permutation(len(parts)):
            yield parts[index]
