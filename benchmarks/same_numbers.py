"""Two checkouts at the same seed: are the metrics, trajectories and weights of short runs equal, bit for bit?

    git worktree add /tmp/before REVISION
    python benchmarks/same_numbers.py /tmp/before .

Each run is trained in a process of its own, once by each checkout, one core each, with `policy.deterministic`. Compared
are the lines of `metrics.jsonl` but for times and speeds, the tensors of the last checkpoint, and what was sampled.
Settings are given in full on the command line, so that a recipe that changed does not count as a difference.
Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import zstandard
from machine import describe
from safetensors.numpy import load_file

TIMES = ("time", "speed/")
COMMON = ("--policy.deterministic=true", "--policy.num_threads=1", "--policy.device=cpu", "--seed", "0")
RUNS = {
    "main_job": (
        "--env=alfworld", "--steps=3", "--eval.num_tasks=20", "--algorithm.negative_weight=0.1",
        "--trainer.entropy_dynamics=true",
    ),
    "r3l": (
        "--env=alfworld", "--recipe=r3l", "--steps=2", "--eval.num_tasks=0", "--algorithm.negative_weight=0.1",
    ),
    "kuhn_poker": ("--env=kuhnpoker", "--steps=2", "--run.save_trajectories=true"),
    "household_team": ("--env=householdteam", "--steps=2", "--eval.num_tasks=0", "--rollout.max_steps=8"),
}  # fmt: skip


def main() -> None:
    """Run and compare; prints one row a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--only", default=",".join(RUNS), help="names of runs, separated by commas")
    parser.add_argument("--out", type=Path, help="where the runs stay; default: a temporary directory")
    arguments = parser.parse_args()
    print(f"{describe()}\n")
    print("| run | metrics | weights | trajectories |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        rows = [compared(name, arguments.before, arguments.after, folder) for name in arguments.only.split(",")]
    sys.exit(1 if any("differ" in row for row in rows) else 0)


def compared(name: str, before: Path, after: Path, folder: Path) -> str:
    """One row of the table: the run of both checkouts, and what of it is equal."""
    runs = [folder / f"{name}_{which}" for which in ("before", "after")]
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(min(len(cores), 2)) as pool:
        list(pool.map(train, (before, after), runs, (name, name), (cores[0], cores[-1])))
    pairs = {
        "metrics": [list(metrics(run)) for run in runs],
        "weights": [weights(run) for run in runs],
        "trajectories": [list(trajectories(run)) for run in runs],
    }
    cells = []
    for kind, (old, new) in pairs.items():
        if not old:
            raise SystemExit(f"'{name}' left no {kind}.")
        differing = [key for key in old if old[key] != new.get(key)] if isinstance(old, dict) else first(old, new)
        cells.append(f"differ: {differing[:3]}" if differing or len(old) != len(new) else f"{len(old)} equal")
    row = f"| {name} | {' | '.join(cells)} |"
    print(row, flush=True)
    return row


def train(checkout: Path, run_dir: Path, name: str, core: int) -> None:
    """One run by the code of a checkout; one that is there already is not repeated."""
    if (run_dir / "report.html").exists():
        return
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, "-m", "agentgym_rft", "train", "--out", str(run_dir.resolve()), *COMMON, *RUNS[name]]
    subprocess.run(
        command, check=True, cwd=checkout, env=environment, stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip


def metrics(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The metrics of each step without times."""
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        yield {key: value for key, value in json.loads(line).items() if not key.startswith(TIMES)}


def weights(run_dir: Path) -> dict[str, bytes]:
    """The tensors of the last checkpoint as bytes, by name."""
    newest = sorted((run_dir / "checkpoints").glob("step-*/model/model.safetensors"))[-1]
    return {name: tensor.tobytes() for name, tensor in load_file(newest).items()}


def trajectories(run_dir: Path) -> Iterator[list[Any]]:
    """What was sampled: ids, log-probs and rewards of every turn of every trajectory, in the order of the files."""
    for path in sorted((run_dir / "trajectories").glob("*.zst")):
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield sampled(json.loads(line))


def sampled(value: Any) -> list[Any]:
    """The columns of all turns in a stored line, wherever they stand in it."""
    if isinstance(value, list):
        return [found for item in value for found in sampled(item)]
    if not isinstance(value, dict):
        return []
    if "action_ids" in value:
        return [[value[key] for key in ("context_ids", "action_ids", "logprobs", "reward", "state_key")]]
    return [found for item in value.values() for found in sampled(item)]


def first(old: list[Any], new: list[Any]) -> list[str]:
    """The first entry that differs, with the keys that do where it is a mapping."""
    for number, (a, b) in enumerate(zip(old, new, strict=False)):
        if a != b:
            keys = [key for key in a if a[key] != b.get(key)] if isinstance(a, dict) else []
            return [f"entry {number}", *keys]
    return []


if __name__ == "__main__":
    main()
