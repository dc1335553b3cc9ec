"""Measures on fixed states how each step changes the entropy, and compares it with the first-order prediction.

The prediction is exact to first order for any optimizer, because it uses the step that was actually taken:

    predicted = g . (theta_after - theta_before),  g = gradient of the states' mean entropy at theta_before
    measured  = mean entropy at theta_after - mean entropy at theta_before

Their difference is of second order in the step: half the step leaves a quarter of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agentgym_rft.trainers.algorithms.base import AUXILIARY
from agentgym_rft.trainers.algorithms.distribution_stats import ENTROPY
from agentgym_rft.trainers.batch.packing import pack
from agentgym_rft.trainers.batch.table import Row, TokenTable
from agentgym_rft.trainers.learner.scoring import Scorer

NUM_ROWS = 8  # a row costs a pass over all its tokens, however few of them are probed


@dataclass(frozen=True, slots=True)
class Before:
    """The state before a step: mean entropy of the probe, its gradient, and the weights by name."""

    entropy: float
    gradient: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


@dataclass(slots=True)
class EntropyProbe:
    """Holds the probed states and measures their entropy. With `num_states` 0 it measures nothing.

    During a step it holds two more tensors of the weights' size. It works in the weights' own precision, because a
    step changes less than bfloat16 resolves.
    """

    num_states: int
    seed: int
    micro_batch_tokens: int
    rows: tuple[Row, ...] = field(default=())

    def before(self, scorer: Scorer, table: TokenTable, rows: Sequence[Row]) -> Before | None:
        """Measure the model before a step on this batch; the first call takes the states from its main trajectories."""
        if not self.num_states:
            return None
        if not self.rows:
            is_auxiliary = table.trajectory_columns[AUXILIARY].tolist()
            self.rows = choose_states(
                [row for row in rows if not is_auxiliary[row.trajectory]], self.num_states, self.seed
            )
        weights = _trained(scorer.model)
        gradient = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        total = 0.0
        for entropy in self._entropies(scorer, grad=True):
            parts = torch.autograd.grad(entropy, list(weights.values()), allow_unused=True)
            for name, part in zip(weights, parts, strict=True):
                if part is not None:
                    gradient[name] += part
            total += float(entropy.detach())
        return Before(total, gradient, {name: weight.detach().clone() for name, weight in weights.items()})

    def after(self, scorer: Scorer, before: Before | None) -> dict[str, float]:
        """Return the predicted and the measured change of the mean entropy, and its value before the step, nats a
        state.
        """
        if before is None:
            return {}
        total = sum(float(entropy) for entropy in self._entropies(scorer, grad=False))
        predicted = 0.0
        for name, weight in _trained(scorer.model).items():
            moved = (weight.detach() - before.weights[name]).double()
            predicted += float((moved * before.gradient[name].double()).sum())
        return {
            "entropy/probe": before.entropy,
            "entropy/predicted_delta": predicted,
            "entropy/measured_delta": total - before.entropy,
        }

    def _entropies(self, scorer: Scorer, *, grad: bool) -> Iterator[Tensor]:
        """Yield each micro-batch's share of the mean entropy, with its graph if `grad`."""
        exact = replace(scorer, bf16=False)
        num_states = sum(len(row.positions) for row in self.rows)
        for batch in pack(self.rows, self.micro_batch_tokens):
            scores = exact.score(batch, (ENTROPY,), grad=grad, with_grad=(ENTROPY.name,))
            yield scores.columns[ENTROPY.name].double().sum() / num_states

    def state_dict(self) -> dict[str, Any]:
        """Return the states as JSON, for a checkpoint."""
        return {"rows": [{"ids": row.ids.tolist(), "positions": row.positions.tolist()} for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put the states of a checkpoint back."""
        self.rows = _numbered((np.array(row["ids"]), np.array(row["positions"])) for row in state["rows"])


def choose_states(rows: Sequence[Row], num_states: int, seed: int) -> tuple[Row, ...]:
    """Draw `num_states` positions from `NUM_ROWS` rows, or from more rows if these hold too few. Fewer are all taken.

    Each row is cut after its last drawn position, and its entries are numbered from 0.
    """
    random = np.random.default_rng(seed)
    pool: list[tuple[int, int]] = []
    for count, number in enumerate(random.permutation(len(rows))):
        if count >= NUM_ROWS and len(pool) >= num_states:
            break
        pool += [(int(number), int(position)) for position in rows[number].positions]
    drawn: dict[int, list[int]] = {}
    for place in sorted(random.permutation(len(pool))[:num_states]):
        number, position = pool[place]
        drawn.setdefault(number, []).append(position)
    return _numbered((rows[number].ids[: at[-1] + 1], np.array(at)) for number, at in drawn.items())


def _numbered(states: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[Row, ...]:
    """Return rows of ids and positions, with entries numbered from 0."""
    rows: list[Row] = []
    first = 0
    for number, (ids, positions) in enumerate(states):
        rows.append(Row(ids, positions, np.arange(first, first + len(positions)), trajectory=number, group=number))
        first += len(positions)
    return tuple(rows)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable weights, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
