"""Learning, measured: success before and after `agentgym train`, by recipe and seed.

    python benchmarks/learning.py --out runs/learning [--env alfworld] [--recipes NAME ...] [--seeds 0 1 2] [--jobs 1]
                                  [--plot PNG] [-- OVERRIDES]

Runs the command once a recipe and seed (`--jobs` at once, each on its own share of the cores), prints a table with 95 %
intervals (Wilson for success, Student for the score), and draws the learning curves. Without `--recipes` it is the
environment's own recipe: the main job. Everything after `--` goes to `agentgym train`, for example real games:

    ... --label "real games" -- --data DIR --eval.split=valid_seen --eval.num_tasks=140

Runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from machine import describe
from runs import Run, train_all

from agentgym_rft.report.evaluation import Summary, read_evaluations
from agentgym_rft.report.intervals import mean_ci
from agentgym_rft.report.metrics import column, read_metrics
from agentgym_rft.report.plots import learning_curves

OWN = "own"


def cell(summary: Summary) -> str:
    low, high = summary["success_ci95"]
    return f"{100 * summary['success']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def score(summary: Summary) -> str:
    mean, (low, high) = mean_ci([row["score"] for row in summary["tasks"] if row["score"] is not None])
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def print_table(run_dirs: list[Path]) -> None:
    """One row a run: first and last evaluation, and what they cost."""
    print(
        "| run | success before | after | difference | score before | after | train minutes | steps | tokens trained |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for run_dir in run_dirs:
        evaluations = read_evaluations(run_dir)
        rows = read_metrics(run_dir / "metrics.jsonl")
        before, after = evaluations[0][1], evaluations[-1][1]
        gain = 100 * (after["success"] - before["success"])
        tokens = sum(column(rows, "tokens/total")[1])
        print(
            f"| {run_dir.name} | {cell(before)} | {cell(after)} | {gain:+.1f} | {score(before)} | {score(after)} "
            f"| {rows[-1]['time_s'] / 60:.1f} | {rows[-1]['step']} | {tokens / 1e6:.2f} M |"
        )
    first = read_evaluations(run_dirs[0])[-1][1]
    print(
        f"\n{first['num_tasks']} tasks of {first['env']} {first['split']}, panel {first['panel_hash'][:16]}, ", end=""
    )
    print("greedy" if first["temperature"] == 0 else f"temperature {first['temperature']}")


def planned(args: argparse.Namespace, recipe: str, seed: int) -> Run:
    """The run of one recipe and seed."""
    named = () if recipe == OWN else ("--recipe", recipe)
    name = f"seed-{seed}" if recipe == OWN else f"{recipe}-seed-{seed}"
    return Run(args.out / name, ("--env", args.env, *named, "--seed", str(seed), *args.overrides))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--env", default="alfworld")
    parser.add_argument("--recipes", nargs="+", default=[OWN], help=f"'{OWN}' is the environment's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--label", default="generated tasks")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    runs = [planned(args, recipe, seed) for seed in args.seeds for recipe in args.recipes]
    train_all(runs, args.jobs)
    run_dirs = [run.run_dir for run in runs]
    cores = os.sched_getaffinity(0)
    print(f"{describe()}; {max(len(cores) // args.jobs, 1)} core(s) a run; {args.label}\n")
    print_table(run_dirs)
    if args.plot:
        rows = {run_dir.name: read_metrics(run_dir / "metrics.jsonl") for run_dir in run_dirs}
        marks = {
            run_dir.name: [(step, summary["success"]) for step, summary in read_evaluations(run_dir)]
            for run_dir in run_dirs
        }
        title = f"{args.env}, {args.label}: training episodes (lines), unseen tasks (diamonds)"
        learning_curves(rows, args.plot, title=title, evaluations=marks)


if __name__ == "__main__":
    main()
