"""A source of which some groups are played against a pool of opponents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentgym_rft.trainers.sources.base import Batch, Source, SourceAround, Weights
from agentgym_rft.trainers.sources.opponents import OpponentPool


class PooledSource(SourceAround):
    """Reports results and new weights to the pool. The explorer asks the pool who plays."""

    def __init__(self, inner: Source, pool: OpponentPool) -> None:
        super().__init__(inner)
        self._pool = pool

    def begin(self, version: int, weights: Weights) -> None:
        super().begin(version, weights)
        self._pool.begin(version)

    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        return replace(batch, metrics={**batch.metrics, **self._pool.observe(batch.groups)})

    def publish(self, version: int, weights: Weights) -> None:
        super().publish(version, weights)
        self._pool.publish(version)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pool": self._pool.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._pool.load_state_dict(state["pool"])
