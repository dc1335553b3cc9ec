"""Batch-invariant sampling: to the last bit, a row gets what it would get alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from agentgym_rft.agents.policies.base import Completion
from agentgym_rft.agents.policies.hf import HFPolicy
from agentgym_rft.agents.policies.ragged import RaggedModel, Segment
from agentgym_rft.errors import PolicyError
from tests.agents.policies.tiny_lms import SERVED, VOCAB, ask, make_model, tokens

Logits = dict[tuple[int, int], torch.Tensor]
LENGTHS = (140, 5, 31, 64)
ROWS = [tokens(length, seed=number) for number, length in enumerate(LENGTHS)]


def fed_alone(model: Any, rows: Sequence[Sequence[int]]) -> Logits:
    """The logits after every token of every row, each row fed token by token with nothing beside it."""
    logits: Logits = {}
    for number, row in enumerate(rows):
        ragged = RaggedModel(model, is_invariant=True)
        ragged.pool.reserve(1, len(row))
        for place, token in enumerate(row):
            logits[number, place] = ragged.forward([Segment(0, place, [token])])[0][0]
    return logits


def fed_together(model: Any, rows: Sequence[Sequence[int]], seed: int, *, is_invariant: bool = True) -> Logits:
    """The logits after random parts of random rows in random slots, fed in random company."""
    rng = np.random.default_rng(seed)
    ragged = RaggedModel(model, is_invariant=is_invariant)
    slots = rng.permutation(len(rows) + 3)[: len(rows)].tolist()
    ragged.pool.reserve(len(rows) + 3, max(LENGTHS))
    fed, logits = [0] * len(rows), {}
    share = rng.choice([0.3, 0.7, 1.0])
    while any(done < len(row) for done, row in zip(fed, rows, strict=True)):
        segments, ends = [], {}
        for number in rng.permutation(len(rows)).tolist():
            left = len(rows[number]) - fed[number]
            if left and rng.random() < share:
                count = min(left, int(rng.choice([1, 1, 1, 2, 3, 5, 17, 40, 130])))
                part = rows[number][fed[number] : fed[number] + count]
                segments.append(Segment(slots[number], fed[number], part))
                fed[number] += count
                ends[slots[number]] = (number, fed[number] - 1)
        if segments:
            found, order, _ = ragged.forward(segments)
            logits |= {ends[slot]: row for slot, row in zip(order, found, strict=True)}
    return logits


@pytest.mark.parametrize("name", SERVED)
def test_logits_are_those_of_the_row_alone_in_any_batch_slot_and_splitting(name: str) -> None:
    model = make_model(name)
    alone = fed_alone(model, ROWS)
    for seed in range(8):
        together = fed_together(model, ROWS[: 2 + seed % 3], seed)
        assert [place for place, logits in together.items() if not torch.equal(logits, alone[place])] == []


def test_without_invariance_they_are_not() -> None:
    model = make_model()
    alone, together = fed_alone(model, ROWS), fed_together(model, ROWS, 2, is_invariant=False)
    assert any(not torch.equal(logits, alone[place]) for place, logits in together.items())
    assert max(float((logits - alone[place]).abs().max()) for place, logits in together.items()) < 1e-4


async def episode(policy: HFPolicy, number: int, num_turns: int) -> list[Completion]:
    row, done = tokens(5 + number * 7 % 40, number), []
    for turn in range(num_turns):
        completion = await policy.sample(ask(f"e{number}", row, 2 + (number + turn) % 5, seed=number * 100 + turn))
        done.append(completion)
        row = [*row, *completion.ids, *tokens(1 + turn % 9, number + turn)]
    policy.release(f"e{number}")
    return done


def test_completions_are_the_same_whatever_runs_beside_them_and_with_any_threads() -> None:
    model = make_model()

    async def together(policy: HFPolicy, numbers: Sequence[int]) -> list[list[Completion]]:
        return await asyncio.gather(*(episode(policy, n, 1 + n % 6) for n in numbers))

    async def one_by_one(policy: HFPolicy, numbers: Sequence[int]) -> list[list[Completion]]:
        return [await episode(policy, n, 1 + n % 6) for n in numbers]

    numbers = list(range(14))
    expected = asyncio.run(one_by_one(HFPolicy(model, is_invariant=True), numbers))
    assert asyncio.run(together(HFPolicy(model, is_invariant=True), numbers)) == expected
    assert asyncio.run(together(HFPolicy(model, is_invariant=True, max_concurrency=3), numbers)) == expected
    some = asyncio.run(together(HFPolicy(model, is_invariant=True, num_threads=2), numbers[9:2:-2]))
    assert some == expected[9:2:-2]


class Neighbourly(torch.nn.Module):
    """A head whose output hangs a little on the number of tokens beside."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self._head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._head(hidden) * (1.0 + 1e-6 * hidden.shape[1])


def test_a_model_that_cannot_be_made_invariant_is_refused_when_it_is_asked_for() -> None:
    model = make_model()
    model.lm_head = Neighbourly(model.lm_head)
    HFPolicy(model)
    with pytest.raises(PolicyError, match="cannot sample deterministically on cpu"):
        HFPolicy(model, is_invariant=True)


def test_the_vocabulary_of_the_tests_is_not_a_multiple_of_any_vector() -> None:
    assert VOCAB % 2, "left-over elements are where torch rounds otherwise"
