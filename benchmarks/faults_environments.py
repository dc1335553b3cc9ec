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
_ENV = "hostile_env:Hostile"
_ERRORS = (
    *("sys.exit(0)", "CancelledError", "GeneratorExit", "an error that cannot be shown"),
    *("won as an array", "won as a word", "a task type that is no text", "a state key that is no text"),
    *("measures without a number", "measures without names", "measures that are not finite"),
    "a constructor that fails once",
)
_HARMLESS = (
    *("won as a numpy scalar", "an event loop of its own", "the current event loop", "another working directory"),
    *("a lock in the info", "keys that are no text", "a close that fails"),
)
_ASYNC = ("--trainer.mode=async",)
_PROCESSES = ("--rollout.workers=processes", "--rollout.processes.num_processes=2")
_RAY = ("--rollout.workers=ray", "--rollout.ray.num_workers=1")
_ELSEWHERE = (
    *(("every error in turn", options) for options in (_ASYNC, _PROCESSES, _RAY)),
    ("a lock in the info", (*_RAY, "--rollout.strategy=reflect_retry")),
)
_FOUND = {
    "RaisesWithoutText": "its message cannot be shown",
    "CountedMeasures": "expected finite numbers by name",
    "ChangesFolder": "an episode changes the working directory",
    "TakesSignals": "an episode changes what SIGTERM does",
    "KeepsAThread": "close leaves engine running",
    "TwoSpaces": "with its white space folded, as in a reply, differs",
}


def trains(folder: Path, *, deed: str, has_errors: bool, options: tuple[str, ...] = ()) -> None:
    """Check that a run of two steps ends well, with a checkpoint, and counts the errors."""
    given = ("--env", _ENV, "--policy", small_policy(), "--out=run", "--steps=2")
    more = (f"--env.options.deed={deed}", *QUICK, "--rollout.num_tasks=6", *options)
    agentgym("train", *given, *more, cwd=folder, env=_PATH).ended(0)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    num_errors = sum(row.get("error/env_error", 0) for row in rows)
    assert (num_errors > 0) == has_errors, f"{num_errors} errors of the environment"
    assert (folder / "run" / "checkpoints").is_dir(), "nothing was saved"


def cannot_be_made(folder: Path) -> None:
    """An environment exits while a run makes its first one: that is no success."""
    (folder / "exits.py").write_text(
        "import sys\nfrom tests.light_switch import LightSwitch\n"
        "class Exits(LightSwitch):\n    def __init__(self): sys.exit(0)\n"
    )
    given = ("--env", "exits:Exits", "--policy", small_policy(), "--out=run")
    agentgym("train", *given, *QUICK, cwd=folder).ended(1, "SystemExit")
    agentgym("eval", "--env=exits:Exits", "--policy=expert", "--tasks=2", cwd=folder).ended(1, "SystemExit")


def keeps_its_result(folder: Path, *, deed: str, code: int) -> None:
    """Everything was played when closing goes wrong: the result is in its file, or it was printed."""
    given = ("eval", "--env", _ENV, "--env-option", f"deed={deed}", "--policy=expert", "--split=train", "--tasks=6")
    for out in (("--out", "r.json"), ()):
        ended = agentgym(*given, *out, cwd=folder, env=_PATH)
        assert ended.code == code, f"exit {ended.code}: {ended.err[-400:]}"
        assert not out or (folder / "r.json").is_file(), "no result was written"
        text = (folder / "r.json").read_text() if out else ended.out
        assert json.loads(text)["num_tasks"] == 6, text


def is_found_by_the_check(folder: Path) -> None:
    """The check of an environment names what a run would suffer from."""
    for planted, sentence in _FOUND.items():
        found = agentgym("check-env", f"tests.envs.check.planted_faults:{planted}", "--quick", cwd=folder, env=_PATH)
        assert found.code == 1, f"{planted}: exit {found.code}, {found.out[-300:]}"
        assert sentence in " ".join(found.out.split()), f"{planted}: {found.out[-600:]}"


CASES = (
    *(Case(KIND, deed, functools.partial(trains, deed=deed, has_errors=True)) for deed in _ERRORS),
    *(Case(KIND, deed, functools.partial(trains, deed=deed, has_errors=False)) for deed in _HARMLESS),
    *(
        Case(KIND, f"{deed}, {options[0]}", functools.partial(trains, deed=deed, has_errors=True, options=options))
        for deed, options in _ELSEWHERE
    ),
    Case(KIND, "a constructor that exits", cannot_be_made),
    *(
        Case(KIND, f"{deed}, after all was played", functools.partial(keeps_its_result, deed=deed, code=code))
        for deed, code in (("a close that exits", 0), ("a close that ends the process", -9))
    ),
    Case(KIND, "check-env finds these", is_found_by_the_check),
)
