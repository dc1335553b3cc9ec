"""Progress of a run: a live display in a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichBar

from agentgym_rft.report.tables import percent, unparsed_note
from agentgym_rft.report.terminal import print_line, shown_path

SUCCESS, ENTROPY, TOKENS_PER_S = "episode/success", "entropy/mean", "speed/tokens_per_s"


class Progress(Protocol):
    """Shows the progress of a training loop."""

    def start(self, *, run_dir: Path, first_step: int, num_steps: int) -> None:
        """The run begins, or goes on, with step `first_step` of `num_steps`; the first of a fresh run is 1."""
        ...

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """A step is done; `metrics` is its row in `metrics.jsonl`."""
        ...

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        """An evaluation is done; `summary` is that of `report.evaluation.summarise`."""
        ...

    def note(self, message: str) -> None:
        """Something a person should know: a checkpoint, a resume, an interruption."""
        ...

    def finish(self) -> None:
        """The run is over, for whatever reason: give the terminal back. May be called twice."""
        ...


class NoProgress:
    """Says nothing; for tests and for use as a library."""

    def start(self, *, run_dir: Path, first_step: int, num_steps: int) -> None: ...

    def step(self, step: int, metrics: Mapping[str, Any]) -> None: ...

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None: ...

    def note(self, message: str) -> None: ...

    def finish(self) -> None: ...


class PlainProgress:
    """One line a step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = _Clock()
        self._num_steps = 0

    def start(self, *, run_dir: Path, first_step: int, num_steps: int) -> None:
        self._num_steps = num_steps
        self._clock.start(first_step, num_steps)
        self._print(f"run {shown_path(run_dir)}, steps {first_step} to {num_steps}")

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        left = self._clock.left(step)
        parts = [f"step {step}/{self._num_steps}", *step_parts(metrics), f"left {format_duration(left)}"]
        self._print("  ".join(parts))

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self._print(evaluation_line(step, summary))

    def note(self, message: str) -> None:
        self._print(message)

    def finish(self) -> None: ...

    def _print(self, line: str) -> None:
        print_line(self._console, line)


class LiveProgress:
    """A bar with the latest numbers below earlier evaluations and notes, which scroll by."""

    def __init__(self, console: Console) -> None:
        self._clock = _Clock()
        self._bar = RichBar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[status]}", markup=False),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def start(self, *, run_dir: Path, first_step: int, num_steps: int) -> None:
        self._clock.start(first_step, num_steps)
        self.note(f"run {shown_path(run_dir)}")
        self._task = self._bar.add_task("train", total=num_steps, completed=first_step - 1, status="starting", left="")
        self._bar.start()

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        if self._task is not None:
            left = f"left {format_duration(self._clock.left(step))}"
            self._bar.update(self._task, completed=step, status="  ".join(step_parts(metrics)), left=left)

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self.note(evaluation_line(step, summary))

    def note(self, message: str) -> None:
        print_line(self._bar.console, message)

    def finish(self) -> None:
        self._bar.stop()


def make_progress(console: Console | None = None) -> Progress:
    """Return the live display if the console (default: stdout) is a terminal, else plain lines."""
    console = console or Console(file=sys.stdout)
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


def step_parts(metrics: Mapping[str, Any]) -> list[str]:
    """Return success, entropy and tokens a second, as far as the row has them."""
    parts = []
    if metrics.get(SUCCESS) is not None:
        parts.append(f"success {percent(metrics[SUCCESS])}")
    if metrics.get(ENTROPY) is not None:
        parts.append(f"entropy {metrics[ENTROPY]:.3f}")
    if metrics.get(TOKENS_PER_S) is not None:
        parts.append(f"{metrics[TOKENS_PER_S]:,.0f} tokens/s")
    return parts


def evaluation_line(step: int, summary: Mapping[str, Any]) -> str:
    """Return one line about an evaluation after a step."""
    low, high = summary["success_ci95"]
    errors = f", {summary['num_errors']} errors" if summary["num_errors"] else ""
    note = unparsed_note(summary)
    return (
        f"evaluation after step {step}: success {percent(summary['success'])} "
        f"(95 % interval {100 * low:.1f} - {100 * high:.1f}) "
        f"on {summary['num_tasks']} tasks of {summary['split']}{errors}{'; ' * bool(note)}{note}"
    )


def format_duration(seconds: float | None) -> str:
    """Return `4000` -> `1:06:40`, `75` -> `1:15`, `None` -> `-:--`."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Clock:
    """Time left, from the mean time of the steps so far."""

    def __init__(self) -> None:
        self._started_s = 0.0
        self._first_step = self._num_steps = 1

    def start(self, first_step: int, num_steps: int) -> None:
        self._started_s = time.monotonic()
        self._first_step, self._num_steps = first_step, num_steps

    def left(self, step: int) -> float | None:
        """Return seconds until the last step is done, None before any step of this process is."""
        num_done = step - self._first_step + 1
        if num_done < 1:
            return None
        return (time.monotonic() - self._started_s) / num_done * (self._num_steps - step)
