"""A terminal's line that shows how far an evaluation is."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agentgym_rft.core import Trajectory
from agentgym_rft.report.tables import percent
from agentgym_rft.report.terminal import print_line


class TerminalEvaluationProgress:
    """A bar with the success so far, and notes. Where the console is no terminal, only the notes are shown."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[status]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._outcomes: list[bool] = []
        self._errors = 0

    def start(self, num_episodes: int, finished: Collection[Trajectory]) -> None:
        for trajectory in finished:
            self._count(trajectory)
        self._task = self._bar.add_task("eval", total=num_episodes, completed=len(finished), status=self._status())
        self._bar.start()

    def episode(self, trajectory: Trajectory) -> None:
        self._count(trajectory)
        self._bar.update(self._task, advance=1, status=self._status())

    def note(self, message: str) -> None:
        print_line(self._bar.console, message)

    def finish(self) -> None:
        self._bar.stop()

    def _count(self, trajectory: Trajectory) -> None:
        if trajectory.is_error:
            self._errors += 1
        else:
            self._outcomes.append(trajectory.won)

    def _status(self) -> str:
        won = self._outcomes
        success = f"success {percent(sum(won) / len(won))}" if won else "playing"
        return success + (f", {self._errors} errors" if self._errors else "")
