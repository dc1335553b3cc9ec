"""Sources give the batches of a training run: they play episodes, or read stored ones.

A source decides when episodes are played and with which weights. The loop only asks it for the next batch, and gives it
the weights after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentgym_rft.core import Group
from agentgym_rft.trainers.sources.explorer import Explorer

Weights = Callable[[], Mapping[str, Any]]  # the trainer's weights by name; called only when needed


@dataclass(frozen=True, slots=True)
class Batch:
    """The groups of a step. `is_sampled`: this run sampled their tokens, so they count as sampled.

    `imitation_groups` are trained with them but were not played for this step. They hold no errored trajectories.
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
        """Let the workers play with the weights of this version while the block runs; for evaluations."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Stop what goes on in the background."""
        ...


class SyncSource:
    """Plays a batch when asked for it, with the weights that were published last: strictly on-policy at interval 1.

    With `sync_interval` I, batch t (from 1) lags (t - 1) mod I versions behind.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._workers = explorer.workers
        self._interval = explorer.config.trainer.sync_interval

    def begin(self, version: int, weights: Weights) -> None:
        if self._workers.version != version:
            self._load(version, weights)

    def batch(self, step: int) -> Batch:
        return Batch(self._workers.run(lambda: self._explorer.collect(step)))

    def publish(self, version: int, weights: Weights) -> None:
        if version % self._interval == 0:
            self._load(version, weights)

    @contextmanager
    def newest(self, version: int, weights: Weights) -> Iterator[None]:
        if self._workers.version != version:
            self._load(version, weights)
        yield

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self._explorer.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._explorer.sampler.load_state_dict(state["sampler"])

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""

    def _load(self, version: int, weights: Weights) -> None:
        self._workers.run(lambda: self._workers.load(weights(), version))


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
