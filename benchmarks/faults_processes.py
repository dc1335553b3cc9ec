"""Processes, threads, forks and signals: a run ends when told to, with all that it started, and keeps its files."""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from fault_case import ROOT, Case, Finished, agentgym, begun
from fault_runs import QUICK, small_policy
from stubborn_env import MARK

KIND = "processes"
_PATH = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))}
_SOON_S = 10.0
_RAY = ("--workers=ray", "--rollout.ray.num_workers=1", "--rollout.ray.num_cpus=0.5")


def command(name: str, deed: str, *options: str) -> tuple[str, ...]:
    """Return the arguments of a command that plays the stubborn light switch."""
    given = (name, "--env", "stubborn_env:Stubborn", "--policy", str(small_policy()), *options)
    if name == "eval":
        return (*given, f"--env-option=deed={deed}", "--tasks=4", "--device=cpu", "--max-context=64")
    return (*given, f"--env.options.deed={deed}", *QUICK)


def play(folder: Path, name: str, deed: str, *options: str, env: dict[str, str] | None = None) -> Finished:
    """Run such a command, in less than a minute."""
    return agentgym(*command(name, deed, *options), cwd=folder, env={**_PATH, **(env or {})}, timeout_s=60)


def train(folder: Path, deed: str, *options: str, env: dict[str, str] | None = None) -> Finished:
    """Train for two steps in `run`."""
    return play(folder, "train", deed, "--out=run", "--steps=2", *options, env=env)


def killed_driver_leaves_nothing(folder: Path) -> None:
    """Kill the driver of an environment that holds the interpreter's lock, and wait for all that have its output."""
    driver = begun("-m", "agentgym_rft", *command("eval", "hold", "--workers=processes"), cwd=folder, env=_PATH)
    with driver:
        while driver.poll() is None and not ((folder / MARK).exists() and (folder / MARK).read_text()):
            time.sleep(0.1)
        driver.kill()
        start = time.monotonic()
        driver.communicate(timeout=60)
    assert time.monotonic() - start < _SOON_S, "it went on after the driver was killed"


def ends_in_time(folder: Path, options: tuple[str, ...], deed: str, words: tuple[str, ...]) -> None:
    """Check that a run ends well, with a warning and with its report."""
    train(folder, deed, *options).ended(0, *words)
    assert (folder / "run" / "report.html").is_file(), "there is no report"


def fork_keeps_no_lock(folder: Path) -> None:
    """Go on with a run while a fork of it still waits."""
    train(folder, "leave a fork").ended(0)
    os.kill(int((folder / MARK).read_text()), 0)  # it is there
    agentgym("train", "--resume=run", "--steps=3", "--trust", cwd=folder, env=_PATH, timeout_s=60).ended(0)
    os.kill(int((folder / MARK).read_text()), signal.SIGKILL)


def fork_does_not_go_on(folder: Path, options: tuple[str, ...]) -> None:
    """Check that each step of a run is there once."""
    train(folder, "fork and exit", *options).ended(0)
    steps = [json.loads(line)["step"] for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2], f"steps {steps}"


def rank_alone_is_heard(folder: Path) -> None:
    """Check that a run with `RANK=1` and no launcher says what it does."""
    ended = train(folder, "none", env={"RANK": "1"})
    ended.ended(0)
    assert "run run" in ended.out, f"it said {ended.out!r}"


def sigterm_is_ctrl_c(folder: Path, name: str, options: tuple[str, ...], again: tuple[str, ...]) -> None:
    """Check that a command stops with 130 and goes on with the same command, or with another."""
    play(folder, name, "sigterm", *options).ended(130)
    if again[0] == name:
        play(folder, name, "sigterm", *options).ended(0)
    else:
        agentgym(*again, cwd=folder, env=_PATH, timeout_s=60).ended(0)


def stopped_evaluation_goes_on(folder: Path, options: tuple[str, ...]) -> None:
    """Compare a stopped evaluation with one that was not."""

    def result() -> dict[str, Any]:
        content: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return {**content, "wall_time_s": 0}

    given = ("eval", "sigterm", "--out=result.json", *options)
    play(folder, *given).ended(130, "episodes are kept; the same command goes on.")
    play(folder, *given).ended(0)
    stopped = result()
    (folder / "result.json").unlink()
    play(folder, *given).ended(0)
    assert stopped == result(), "the result is another"


def crossplay_is_stopped(folder: Path) -> None:
    """Send SIGTERM to a cross-play."""
    given = ("--env=stubborn_env:StubbornTeam", "--policy=random", "--policy=oracle", "--tasks=2", "--out=result.json")
    agentgym("crossplay", *given, cwd=folder, env=_PATH, timeout_s=60).ended(130, "Interrupted.")
    assert not (folder / "result.json").exists(), "there is a result"


_LATE = ("took longer than",)
_CLOSE = {
    "local": ((), _LATE),
    "processes": (("--workers=processes",), _LATE),
    "ray": (_RAY, ("did not close within",)),
}
_THREAD = ("Ended without waiting longer for threads", "uploader")
_RESUME = ("train", "--resume=run", "--trust")


def _held(name: str, check: Any, *arguments: Any) -> Case:
    return Case(KIND, name, functools.partial(lambda folder: check(folder, *arguments)))


CASES = (
    _held("kill -9 while an environment holds the interpreter's lock", killed_driver_leaves_nothing),
    *(
        _held(f"a close that hangs, {where}", ends_in_time, how, "hang in close", said)
        for where, (how, said) in _CLOSE.items()
    ),
    _held("a thread without an end, local", ends_in_time, (), "leave a thread", _THREAD),
    _held("a thread without an end, processes", ends_in_time, ("--workers=processes",), "leave a thread", ()),
    _held("a fork that stays, and the run's lock", fork_keeps_no_lock),
    _held("a fork that comes back, local", fork_does_not_go_on, ()),
    _held("a fork that comes back, processes", fork_does_not_go_on, ("--workers=processes",)),
    _held("RANK=1 alone", rank_alone_is_heard),
    _held("SIGTERM to train", sigterm_is_ctrl_c, "train", ("--out=run", "--steps=2"), _RESUME),
    _held("SIGTERM to explore", sigterm_is_ctrl_c, "explore", ("--store=s.db", "--groups=8"), ("explore",)),
    _held("SIGTERM to eval", stopped_evaluation_goes_on, ()),
    _held("SIGTERM to eval, with a deadline", stopped_evaluation_goes_on, ("--step-timeout=30",)),
    _held("SIGTERM to crossplay", crossplay_is_stopped),
)
