"""Sources give the batches of a training run: they play episodes, or read stored ones.

A source decides when episodes are played and with which weights. The loop only asks it for the next batch, and gives it
the weights after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentgym_rft.core import Group

Weights = Callable[[], Mapping[str, Any]]  # the trainer's weights by name; called only when needed


@dataclass(frozen=True, slots=True)
class Batch:
    """The groups of a step. `is_sampled`: this run sampled their tokens, so they count as sampled.

    `imitation_groups` are trained with them but were not played for this step. `labelled_groups` are trained in their
    place: the same episodes with an expert's actions. Neither hold errored trajectories.
    """

    groups: list[Group]
    is_sampled: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    imitation_groups: list[Group] = field(default_factory=list)
    labelled_groups: list[Group] | None = None


class Source(Protocol):
    """Gives one batch after another."""

    def begin(self, version: int, weights: Weights) -> None:
        """The weights that the run starts or goes on with; before the first batch."""
        ...

    def batch(self, step: int) -> Batch:
        """Return the batch of a step (from 0), trained under weights of version `step`."""
        ...

    def publish(self, version: int, weights: Weights) -> None:
        """The weights after `version` steps."""
        ...

    def newest(self, version: int, weights: Weights) -> AbstractContextManager[None]:
        """Let the workers play with the weights of this version while the block runs; for evaluations."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Stop what goes on in the background."""
        ...


class SourceAround:
    """Wraps another source and passes all calls on to it. Subclasses change the batches."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner

    def begin(self, version: int, weights: Weights) -> None:
        self._inner.begin(version, weights)

    def batch(self, step: int) -> Batch:
        return self._inner.batch(step)

    def publish(self, version: int, weights: Weights) -> None:
        self._inner.publish(version, weights)

    def newest(self, version: int, weights: Weights) -> AbstractContextManager[None]:
        return self._inner.newest(version, weights)

    def state_dict(self) -> dict[str, Any]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._inner.load_state_dict(state)

    def close(self) -> None:
        self._inner.close()
