"""Runs training for the command line: shows progress and prints results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from agentgym_rft.agents.policies.names import model_name, renamed
from agentgym_rft.agents.policies.seeds import is_seed
from agentgym_rft.config.run import Config
from agentgym_rft.report.terminal import say, shown_path
from agentgym_rft.trainers.learner.launcher import is_leading

INTERRUPTED = 130


def run_train(config: Config, resume: Path | None, go_on: str | None = None) -> None:
    """A training run, shown on the terminal; `go_on` is the command that goes on with it after an interruption."""
    from agentgym_rft.report.html import write_report
    from agentgym_rft.report.progress import make_progress
    from agentgym_rft.rollouts.policies import policy_dir
    from agentgym_rft.store.under_way import under_way
    from agentgym_rft.trainers.loop import train

    name = config.policy.path
    if not is_seed(model_name(name)):  # the newest checkpoint of a run changes, so record which one it was
        policy = config.policy.model_copy(update={"path": renamed(name, str(policy_dir(name)))})
        config = config.model_copy(update={"policy": policy})
    if not is_leading():  # with torchrun, only the first process prints
        train(config, resume=resume)
        return
    progress = make_progress()
    try:
        result = train(config, resume=resume, progress=progress)
    finally:
        progress.finish()
    with under_way(result.run_dir, f"The run is saved. Make room, then: agentgym view {result.run_dir}", lambda: True):
        report = write_report(result.run_dir)
    if len(result.evaluations) > 1:
        say(_change(result.evaluations[0], result.evaluations[-1]))
    say(f"report {shown_path(report)}")
    say(f"run {shown_path(result.run_dir)}")
    if result.is_interrupted:
        command = go_on or f"agentgym train --resume {shown_path(result.run_dir)}"
        say(f"interrupted after step {result.num_steps}; go on with: {command}")
        raise typer.Exit(INTERRUPTED)


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    rates = " -> ".join(_rate(summary) for summary in (before, after))
    return f"success on {after['num_tasks']} tasks of {after['split']}: {rates} (95 % intervals)"


def _rate(summary: Mapping[str, Any]) -> str:
    from agentgym_rft.report.tables import percent

    low, high = summary["success_ci95"]
    return f"{percent(summary['success'])} ({100 * low:.1f} - {100 * high:.1f})"
