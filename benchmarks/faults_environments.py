"""Environments that raise, end the process, lie and change folders: an error of their episodes, and of nothing else."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

from fault_case import ROOT, Case, agentgym
from fault_runs import QUICK, small_policy

KIND = "environments"
_PATH = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))}
_ERRORS = (
    *("sys.exit(0)", "CancelledError", "GeneratorExit", "an error that cannot be shown"),
    *("won as an array", "measures without a number", "a task type that is no text"),
)
_HARMLESS = ("won as a numpy scalar", "an event loop of its own", "another working directory", "a close that fails")


def trains(folder: Path, *, deed: str, has_errors: bool) -> None:
    """Check that a run of two steps ends well, with a checkpoint, and counts the errors."""
    given = ("--env", "hostile_env:Hostile", "--policy", small_policy(), "--out=run", "--steps=2")
    more = (f"--env.options.deed={deed}", *QUICK, "--rollout.num_tasks=6")
    agentgym("train", *given, *more, cwd=folder, env=_PATH).ended(0)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    num_errors = sum(row.get("error/env_error", 0) for row in rows)
    assert (num_errors > 0) == has_errors, f"{num_errors} errors of the environment"
    assert (folder / "run" / "checkpoints").is_dir(), "nothing was saved"


CASES = tuple(
    Case(KIND, deed, functools.partial(trains, deed=deed, has_errors=has_errors))
    for deeds, has_errors in ((_ERRORS, True), (_HARMLESS, False))
    for deed in deeds
)
