"""Training runs side by side, each on its own share of the cores; runs that are there already are not repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue


@dataclass(frozen=True)
class Run:
    """One `agentgym train`, and what to call afterwards with its directory (further `agentgym` commands)."""

    run_dir: Path
    arguments: tuple[str, ...]
    afterwards: tuple[tuple[str, ...], ...] = ()

    @property
    def is_done(self) -> bool:
        return (self.run_dir / ".done").exists()


def train_all(runs: Sequence[Run], jobs: int, *, keep_going: bool = False) -> None:
    """Do the runs that are not done, in order, `jobs` at once. The log of each lies beside its directory.

    Raises CalledProcessError if a run fails, unless `keep_going`: then it is only said.
    """
    cores = sorted(os.sched_getaffinity(0))
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cores[job::jobs] or cores)

    def one(run: Run) -> None:
        share = shares.get()
        try:
            _train(run, share)
        except subprocess.CalledProcessError as error:
            print(f"{run.run_dir} failed: {error}", file=sys.stderr)
            if not keep_going:
                raise
        finally:
            shares.put(share)

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(one, run) for run in runs if not run.is_done]:
            future.result()


def _train(run: Run, share: list[int]) -> None:
    run.run_dir.parent.mkdir(parents=True, exist_ok=True)
    train = ("train", "--out", str(run.run_dir), f"--policy.num_threads={len(share)}", *run.arguments)
    with run.run_dir.with_suffix(".log").open("w") as log:
        for arguments in (train, *run.afterwards):
            command = [sys.executable, "-m", "agentgym_rft.cli.main", *arguments]
            subprocess.run(
                command, check=True, stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, share)
            )
    (run.run_dir / ".done").touch()
