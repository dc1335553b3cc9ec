"""Part `household` of benchmarks/multi_agent.py: teams against one worker."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from team_cells import Cell, done_runs, seed_policy

from agentgym_rft.report.evaluation import read_evaluations
from agentgym_rft.report.metrics import column, read_metrics
from agentgym_rft.rollouts.policies import policy_dir

SEED = "household_planner_seed"
TOKENS = "--trainer.max_generated_tokens=60000"
SHORT = "--trainer.steps=100"
CELLS = (
    Cell("one worker, 30 turns", "householdteam", (TOKENS, SHORT, "--env.options.num_agents=1")),
    Cell("two workers, 30 turns", "householdteam", (TOKENS, SHORT)),
    Cell(
        "two workers, counterfactual credit",
        "householdteam",
        (TOKENS, SHORT, "--rollout.strategy=counterfactual", "--algorithm.name=grpo"),
    ),
    Cell("planner + worker, shared weights", "household_planner", (TOKENS, SHORT), SEED),
    Cell("planner + worker, separate weights", "household_planner", (TOKENS, SHORT, "--team.weights=separate"), SEED),
)


def household(args: argparse.Namespace) -> None:
    """Train the cells at equal sampled tokens and print them before and after."""
    out = args.out / "household"
    if not args.print_only:
        seed_policy(out, SEED, "--init", str(policy_dir("seed")))
    done = done_runs(CELLS, out, args)
    print("| team | seed | success before | after | turns of all, before | after | steps | minutes | tokens |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for label, runs in done.items():
        for run in runs:
            print(_row(label, run))
    print("\nGreedy, 200 unseen tasks, at most 50 turns of all; 95 % intervals (Wilson).")


def _row(label: str, run_dir: Path) -> str:
    evaluations = read_evaluations(run_dir)
    before, after = evaluations[0][1], evaluations[-1][1]
    rows = read_metrics(run_dir / "metrics.jsonl")
    tokens = sum(column(rows, "rollout/generated_tokens")[1])
    return (
        f"| {label} | {run_dir.name[-1]} | {_rate(before)} | {_rate(after)} | {before['mean_turns']:.1f} "
        f"| {after['mean_turns']:.1f} | {rows[-1]['step']} | {rows[-1]['time_s'] / 60:.1f} | {tokens:,.0f} |"
    )


def _rate(summary: dict[str, Any]) -> str:
    low, high = summary["success_ci95"]
    return f"{100 * summary['success']:.1f} % ({100 * low:.1f} - {100 * high:.1f})"
