"""What it saves to compute each shared beginning once: this build against one that fed and trained every row whole.

    python benchmarks/shared_prefixes.py [--only ROW,...] [--model DIR] [--old DIR] [--rounds 2] [--growth]

Both builds run in turn, each in a process of its own with one thread, and a row has the ratio of processor seconds and
of token positions that the model took in. The other build is commit 8352362, checked out in a temporary folder unless
`--old` names one. Rows of a pretrained model need `--model`. `--growth` shows how the cost of a group grows with its
size, its turns and the vocabulary, with the exponent of a power law through the points.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from machine import describe

ROOT = Path(__file__).parents[1]
OLD = "8352362"
_QUICK = ("--eval.num_tasks=0", "--policy.num_threads=1")
_REAL = ("--policy.max_context=2560", "--trainer.micro_batch_tokens=1024", "--trainer.num_minibatches=1")
_TEAM = ("--rollout.strategy=counterfactual", "--rollout.num_tasks=4", "--rollout.group_size=4")


@dataclass(frozen=True)
class Row:
    """A job, run on both builds: the probe with its arguments, and what is compared of what it printed."""

    probe: str
    arguments: tuple[str, ...]
    read: Callable[[dict[str, Any]], dict[str, float]]
    needs_model: bool = False


def whole(seen: dict[str, Any]) -> dict[str, float]:
    """Return seconds and positions of a job as a whole."""
    return {"seconds": seen["cpu_s"], "positions": seen["embedded"]}


def last_step(seen: dict[str, Any]) -> dict[str, float]:
    """Return those of the last step of a run, for all of it and by phase."""
    step = seen["steps"][-1]
    return {
        "step, seconds": step["rollout_s"] + step["update_s"],
        "rollout, seconds": step["rollout_s"],
        "rollout, positions": step["rollout_embedded"],
        "update, seconds": step["update_s"],
        "update, positions": step["update_embedded"],
        "peak, MB": seen["peak_mb"],
    }


def train(*arguments: str, needs_model: bool = False) -> Row:
    """Return a run of two steps."""
    given = ("train", "--out", "run", "--steps", "2", *_QUICK, *arguments)
    return Row("prefix_probe.py", given, last_step, needs_model)


ROWS = {
    "main": train("--env", "alfworld"),
    "behaviour": train("--env", "alfworld", "--algorithm.options.anchor=behaviour"),
    "r3l": train("--env", "alfworld", "--recipe", "r3l"),
    "counterfactual": train("--env", "householdteam", *_TEAM),
    "eval8": Row(
        "prefix_probe.py",
        ("eval", "--env", "alfworld", "--policy", "seed", "--tasks", "16", "--samples", "8", "--temperature", "1"),
        whole,
    ),
    "group": Row("prefix_group.py", ("MODEL", "ours"), whole, needs_model=True),
    "model": train(
        *("--env", "alfworld", "--policy", "MODEL", *_REAL),
        *("--rollout.num_tasks=1", "--rollout.group_size=8", "--rollout.max_steps=5", "--algorithm.name=asymre"),
        needs_model=True,
    ),
}


def played(build: Path, probe: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a probe on a build, in an empty folder; returns what it printed last."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(build), "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": folder}
        command = [sys.executable, str(ROOT / "benchmarks" / probe), *arguments]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with exit code {ended.returncode}:\n{ended.stderr[-2000:]}")
    seen: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if seen["code"] != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-2000:]}")
    return seen


@contextmanager
def other_build(given: Path | None) -> Iterator[Path]:
    """Give the folder of the other build; it is checked out beside this one if none is given."""
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), OLD], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def compare(name: str, row: Row, old: Path, model: str, rounds: int) -> None:
    """Print a row for each number of a job: before, now, and their ratio."""
    arguments = [model if argument == "MODEL" else argument for argument in row.arguments]
    seen: list[list[dict[str, float]]] = [[], []]
    for _ in range(rounds):
        for side, build in enumerate((old, ROOT)):
            seen[side].append(row.read(played(build, row.probe, arguments)))
    for key in seen[0][0]:
        before, now = (fmean(round_[key] for round_ in side) for side in seen)
        print(f"| {name} | {key} | {before:,.1f} | {now:,.1f} | {now / before:.2f} |", flush=True)


def against_generate(model: str, rounds: int) -> None:
    """Print the group's turns by transformers' `generate` on the whole batch."""
    own, other = (
        fmean(played(ROOT, "prefix_group.py", (model, way))["cpu_s"] for _ in range(rounds))
        for way in ("ours", "generate")
    )
    print(f"| `generate` | seconds | {other:,.1f} | {own:,.1f} | {own / other:.2f} |", flush=True)


def grow(old: Path, model: str) -> None:
    """Print seconds of a group by its size, turns and vocabulary on both builds, with the exponents of their growth."""
    print("\n| what | of | before, s | now, s |\n|---|---|---|---|")
    sizes = {"--members": (2, 4, 8, 16, 32), "--turns": (2, 4, 8, 16), "--vocabulary": (1000, 8000, 49152, 152000)}
    for option, values in sizes.items():
        points: dict[Path, list[tuple[float, float]]] = {old: [], ROOT: []}
        for value in values:
            for build, found in points.items():
                found.append((value, played(build, "prefix_group.py", (model, "ours", option, str(value)))["cpu_s"]))
            before, now = (found[-1][1] for found in points.values())
            print(f"| {option[2:]} | {value} | {before:.1f} | {now:.1f} |", flush=True)
        exponents = " | ".join(f"{exponent(found):.2f}" for found in points.values())
        print(f"| {option[2:]} | exponent | {exponents} |", flush=True)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return b of the power law a x^b with the least squares of its logarithm."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (fmean(values) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join((*ROWS, "generate")), help=f"of {', '.join((*ROWS, 'generate'))}")
    parser.add_argument("--model", type=Path, help="directory of a pretrained model")
    parser.add_argument("--old", type=Path, help="folder of the other build")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side runs")
    parser.add_argument("--growth", action="store_true", help="how the cost of a group grows, in place of the rows")
    args = parser.parse_args()
    model = "" if args.model is None else str(args.model.absolute())
    print(f"{describe()}, one thread, processor seconds\n")
    with other_build(args.old) as old:
        if args.growth:
            grow(old, model)
            return
        print("| job | of | before | now | ratio |\n|---|---|---|---|---|")
        for name in args.only.split(","):
            if name == "generate" and model:
                against_generate(model, args.rounds)
            elif name in ROWS and (model or not ROWS[name].needs_model):
                compare(name, ROWS[name], old, model, args.rounds)


if __name__ == "__main__":
    main()
