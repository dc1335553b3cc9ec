"""Part `bargain` of benchmarks/multi_agent.py: what the reward is of, and what agents make of it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from team_cells import Cell, done_runs, seed_policy

from agentgym_rft.report.evaluation import read_evaluations
from agentgym_rft.report.metrics import read_metrics
from agentgym_rft.store.trajectories import read_trajectories

SEED = "bargain_seed"
CELLS = (
    Cell("own reward", "bargain", (), SEED),
    Cell("half own, half the team's", "bargain", ("--team.reward_share=0.5",), SEED),
    Cell("the team's reward", "bargain", ("--team.reward_share=1",), SEED),
)


def bargain(args: argparse.Namespace) -> None:
    """Train the cells; print scores before and after, and how the last episodes went."""
    out = args.out / "bargain"
    if not args.print_only:
        seed_policy(out, SEED)
    done = done_runs(CELLS, out, args)
    print("| reward | seed | deals | joint | Pareto-optimal | score | turns | invalid | minutes |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for label, runs in done.items():
        for run in runs:
            evaluations = read_evaluations(run)
            minutes = read_metrics(run / "metrics.jsonl")[-1]["time_s"] / 60
            print(_row(f"{label}, before", run, evaluations[0][1], 0.0))
            print(_row(f"{label}, after", run, evaluations[-1][1], minutes))
    print("\n200 unseen games at temperature 1; joint is the sum over the largest sum there is.\n")
    print("| reward | seed | episodes | offers | say | accept | quit | invalid | all items offered to oneself |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for label, runs in done.items():
        for run in runs:
            for name, share in (("first step", "step-000001"), ("last step", None)):
                print(_habits(f"{label}, {name}", run, share))


def _row(label: str, run_dir: Path, summary: dict[str, Any], minutes: float) -> str:
    measures = summary["measures"]
    return (
        f"| {label} | {run_dir.name[-1]} | {100 * measures['deal']:.1f} % | {measures['joint']:.3f} "
        f"| {100 * measures['pareto']:.1f} % | {summary['score']:.3f} | {summary['mean_turns']:.1f} "
        f"| {100 * summary['invalid_actions']:.1f} % | {minutes:.1f} |"
    )


def _habits(label: str, run_dir: Path, step: str | None) -> str:
    """What is said in the training episodes of a step: how a policy that collapses shows."""
    files = sorted((run_dir / "trajectories").glob("*"))
    chosen = next((file for file in files if step is not None and step in file.name), files[0] if step else files[-1])
    trajectories = list(read_trajectories(chosen))
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    kinds = Counter(str(turn.info["action"]).partition(":")[0].strip().lower() for turn in turns)
    invalid = sum(bool(turn.info["invalid_action"]) for turn in turns)
    greedy = sum(
        _takes_all(trajectory.turns[0].info["observation"], turn.info["action"])
        for trajectory in trajectories
        for turn in trajectory.turns
    )
    episodes = len({trajectory.episode_id for trajectory in trajectories})
    shares = " | ".join(f"{100 * kinds[kind] / len(turns):.1f} %" for kind in ("offer", "say", "accept", "quit"))
    offers = max(kinds["offer"], 1)
    return (
        f"| {label} | {run_dir.name[-1]} | {episodes} | {shares} | {100 * invalid / len(turns):.1f} % "
        f"| {100 * greedy / offers:.1f} % of offers |"
    )


def _takes_all(opening: str, action: str) -> bool:
    """Whether an action is an offer that leaves the other agent nothing; the opening says what there is."""
    kind, _, items = str(action).partition(":")
    if kind.strip().lower() != "offer":
        return False
    asked = sum(int(word) for word in items.split() if word.isdigit())
    there = opening.partition("Your values")[0]
    return asked == sum(int(word.strip(".,")) for word in there.split() if word.strip(".,").isdigit())
