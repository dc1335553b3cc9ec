"""The main job, measured: success before and after `agentgym train --env alfworld`, over several seeds.

    python benchmarks/alfworld_learning.py --out runs/learning [--seeds 0 1 2] [--jobs 1] [--plot PNG] [-- OVERRIDES]

Runs the command once a seed (`--jobs` at once, each on its own share of the cores), prints a table with Wilson 95 %
intervals, and draws the learning curves. Everything after `--` goes to `agentgym train`, for example the real games:

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
from agentgym_rft.report.metrics import column, read_metrics
from agentgym_rft.report.plots import learning_curves


def cell(summary: Summary) -> str:
    low, high = summary["success_ci95"]
    return f"{100 * summary['success']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def print_table(run_dirs: list[Path]) -> None:
    """One row a run: first and last evaluation, and what they cost."""
    print("| run | before | after | difference | train minutes | steps | episodes | tokens trained |")
    print("|---|---|---|---|---|---|---|---|")
    for run_dir in run_dirs:
        evaluations = read_evaluations(run_dir)
        rows = read_metrics(run_dir / "metrics.jsonl")
        before, after = evaluations[0][1], evaluations[-1][1]
        gain = 100 * (after["success"] - before["success"])
        episodes, tokens = (sum(column(rows, key)[1]) for key in ("episode/num", "tokens/total"))
        print(
            f"| {run_dir.name} | {cell(before)} | {cell(after)} | +{gain:.1f} | {rows[-1]['time_s'] / 60:.1f} "
            f"| {rows[-1]['step']} | {episodes:.0f} | {tokens / 1e6:.2f} M |"
        )
    first = read_evaluations(run_dirs[0])[-1][1]
    print(
        f"\n{first['num_tasks']} tasks of {first['env']} {first['split']}, panel {first['panel_hash'][:16]}, ", end=""
    )
    print("greedy" if first["temperature"] == 0 else f"temperature {first['temperature']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--label", default="generated games")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    train = ("--env", "alfworld", *args.overrides)
    runs = [Run(args.out / f"seed-{seed}", ("--seed", str(seed), *train)) for seed in args.seeds]
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
        title = f"GRPO on {args.label}: training episodes (lines), unseen tasks (diamonds)"
        learning_curves(rows, args.plot, title=title, evaluations=marks)


if __name__ == "__main__":
    main()
