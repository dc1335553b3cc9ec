"""The calls by which an evaluation tells how far it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from agentgym_rft.core import Trajectory


class EvaluationProgress(Protocol):
    """Shows how far an evaluation is; `report.evaluation_progress` does so on a terminal."""

    def start(self, num_episodes: int, finished: Collection[Trajectory]) -> None:
        """Begin to show an evaluation; `finished` are its episodes that were played before."""
        ...

    def episode(self, trajectory: Trajectory) -> None:
        """Show that an episode has ended."""
        ...

    def note(self, message: str) -> None:
        """Show what a person should know: that the evaluation goes on, or was interrupted. May come before `start`."""
        ...

    def finish(self) -> None:
        """Give the terminal back: the evaluation is over, for whatever reason."""
        ...


class NoEvaluationProgress:
    """Shows nothing; for training runs and for use as a library."""

    def start(self, num_episodes: int, finished: Collection[Trajectory]) -> None: ...

    def episode(self, trajectory: Trajectory) -> None: ...

    def note(self, message: str) -> None: ...

    def finish(self) -> None: ...
