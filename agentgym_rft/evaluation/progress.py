"""How far an evaluation is, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agentgym_rft.core import Trajectory
from agentgym_rft.report.tables import percent


@contextmanager
def evaluation_progress(
    console: Console, num_episodes: int, finished: Mapping[str, Trajectory]
) -> Iterator[Callable[[Trajectory], None]]:
    """A bar with the success so far; gives what is to be called with each episode that ends.

    `finished` are those that ended before. Where the console is no terminal, nothing is shown.
    """
    outcomes = [trajectory.won for trajectory in finished.values() if not trajectory.is_error]
    errors = len(finished) - len(outcomes)

    def status() -> str:
        success = f"success {percent(sum(outcomes) / len(outcomes))}" if outcomes else "playing"
        return success + (f", {errors} errors" if errors else "")

    bar = Progress(
        TextColumn("{task.fields[status]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("eval", total=num_episodes, completed=len(finished), status=status())

        def on_finished(trajectory: Trajectory) -> None:
            nonlocal errors
            if trajectory.is_error:
                errors += 1
            else:
                outcomes.append(trajectory.won)
            bar.update(task, advance=1, status=status())

        yield on_finished
