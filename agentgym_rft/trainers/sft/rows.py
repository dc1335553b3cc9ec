"""Rows of tokens with loss weights: the training data of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from agentgym_rft.core import Trajectory
from agentgym_rft.errors import ConfigError

_NUM_TRIED = 8  # demonstrations, of which the shortest prompt is looked at


@dataclass(frozen=True, slots=True)
class SftRow:
    """One row of tokens, [length]; `is_action` marks those that a policy would sample.

    `weights` are their loss weights; None: 1 for actions, `sft.context_weight` for the rest.
    """

    ids: np.ndarray
    is_action: np.ndarray
    weights: np.ndarray | None = None


def with_room(trajectories: Iterator[Trajectory], max_context: int) -> Iterator[Trajectory]:
    """Yield the trajectories. Raises `ConfigError` if the first ones, cut at `max_context` tokens, have no action."""
    first = list(islice(trajectories, _NUM_TRIED))
    shortest = min((len(trajectory.turns[0].context_ids) for trajectory in first if trajectory.turns), default=0)
    if shortest >= max_context:
        raise ConfigError(
            f"The first prompt of a demonstration has {shortest} tokens or more, but model.max_context is "
            f"{max_context}, so no action would be learnt. Raise model.max_context, or choose a shorter agent card."
        )
    yield from chain(first, trajectories)


def sft_rows(trajectory: Trajectory, max_context: int) -> Iterator[SftRow]:
    """Yield the rows of a trajectory, each cut at `max_context` tokens."""
    for turns in trajectory.rows():
        ids = [i for turn in turns for i in (*turn.context_ids, *turn.action_ids)]
        kinds = [kind for turn in turns for kind in (False,) * len(turn.context_ids) + (True,) * len(turn.action_ids)]
        yield SftRow(np.array(ids[:max_context], np.int64), np.array(kinds[:max_context], bool))
