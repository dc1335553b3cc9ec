"""Where the batches of a training run come from: the stages before the trainer, and the queue between the two.

A source decides when episodes are played and with which weights; the loop only asks it for the next batch and hands it
the weights that came out of the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentgym_rft.core import Group

Weights = Callable[[], Mapping[str, Any]]  # the trainer's, by name; gathering them costs time, so it is asked for


@dataclass(frozen=True, slots=True)
class Batch:
    """The groups of a step. `is_sampled`: their tokens were sampled for this run, and count as such.

    `beside`: what is trained with them and was not played for this step, without errored trajectories.
    """

    groups: list[Group]
    is_sampled: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    imitation_groups: list[Group] = field(default_factory=list)


class Source(Protocol):
    """Gives one batch after another."""

    def begin(self, version: int, weights: Weights) -> None:
        """The weights that the run starts or goes on with; before the first batch."""
        ...

    def batch(self, step: int) -> Batch:
        """The batch of a step (from 0), trained under weights of version `step`."""
        ...

    def publish(self, version: int, weights: Weights) -> None:
        """The weights after `version` steps."""
        ...

    def newest(self, version: int, weights: Weights) -> AbstractContextManager[None]:
        """The workers play with the weights of this version, and nobody changes them, inside; for evaluations."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON holds it."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Stop what goes on in the background."""
        ...


class SourceAround:
    """Passes everything on to the source that it is put around; what is derived from it changes the batches."""

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
