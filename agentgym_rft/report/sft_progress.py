"""Progress of a run of imitation: a line for every step."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from agentgym_rft.report.progress import evaluation_line, format_duration
from agentgym_rft.report.terminal import print_line, shown_path


class SftProgress(Protocol):
    """Shows the progress of imitation."""

    def start(self, run_dir: Path, num_tokens: int, share: float) -> None:
        """The run begins, or goes on after a share of its budget; it is to train this many tokens in all."""
        ...

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A step is done; `metrics` is its row in `metrics.jsonl`."""
        ...

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        """An evaluation is done."""
        ...

    def note(self, message: str) -> None:
        """Something a person should know."""
        ...


class NoSftProgress:
    """Says nothing; for tests and for use as a library."""

    def start(self, run_dir: Path, num_tokens: int, share: float) -> None: ...

    def step(self, metrics: Mapping[str, Any]) -> None: ...

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None: ...

    def note(self, message: str) -> None: ...


class SftLines:
    """Prints a line for every step, in a terminal as elsewhere: a step of a pretrained model takes a while."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        self._num_tokens = 1
        self._first_share = self._started_s = 0.0

    def start(self, run_dir: Path, num_tokens: int, share: float) -> None:
        self._num_tokens, self._first_share, self._started_s = num_tokens, share, time.monotonic()
        self.note(f"run {shown_path(run_dir)}")

    def step(self, metrics: Mapping[str, Any]) -> None:
        share = metrics["progress"]
        parts = [
            f"step {metrics['step']:.0f}",
            f"{100 * share:.1f} % of {self._num_tokens:,} tokens",
            f"loss {metrics['loss/all']:.3f}",
            f"action loss {metrics['loss/action']:.3f}",
            f"{metrics['speed/tokens_per_s']:,.0f} tokens/s",
            f"left {format_duration(self._left(share))}",
        ]
        self.note("  ".join(parts))

    def evaluation(self, step: int, summary: Mapping[str, Any]) -> None:
        self.note(evaluation_line(step, summary))

    def note(self, message: str) -> None:
        print_line(self._console, message)

    def _left(self, share: float) -> float | None:
        """Return seconds until all is done, at the mean speed of this process; None before it has one."""
        gained = share - self._first_share
        return (time.monotonic() - self._started_s) / gained * (1 - share) if gained > 0 else None
