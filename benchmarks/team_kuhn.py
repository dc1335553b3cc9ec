"""Part `kuhn` of benchmarks/multi_agent.py: exploitability over self-play."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch
from team_cells import Cell, done_runs, seed_policy

from agentgym_rft.config.load import load_config
from agentgym_rft.envs.making import make_env
from agentgym_rft.evaluation.exact import PolicyModel, analyse
from agentgym_rft.rollouts.policies import load_policy_model
from agentgym_rft.rollouts.seats import open_agents

SEED = "kuhnpoker_seed"
POOL = "--team.pool.share"
CELLS = (
    Cell("GRPO, no pool", "kuhnpoker", (f"{POOL}=0", "--algorithm.name=grpo"), SEED),
    Cell("no pool, no KL", "kuhnpoker", (f"{POOL}=0", "--algorithm.kl_coef=0"), SEED),
    Cell("no pool", "kuhnpoker", (f"{POOL}=0",), SEED),
    Cell("pool, uniform", "kuhnpoker", (f"{POOL}=0.5",), SEED),
    Cell("pool, prioritised", "kuhnpoker", (f"{POOL}=0.5", "--team.pool.rule=prioritised"), SEED),
)


def kuhn(args: argparse.Namespace) -> None:
    """Train, score every checkpoint, print a table and draw the curves."""
    out = args.out / "kuhn"
    start = seed_policy(out, SEED)
    first = exploitability(start / "model")["exploitability"]
    done = done_runs(CELLS, out, args)
    curves = {label: [[(0, first), *_curve(run)] for run in runs] for label, runs in done.items() if runs}
    print("| training | exploitability before | lowest | after | mean of the last third | value of seat 1 after |")
    print("|---|---:|---:|---:|---:|---:|")
    for label, found in curves.items():
        for run, curve in zip(done[label], found, strict=True):
            values = [value for _, value in curve]
            last = values[-max(len(values) // 3, 1) :]
            print(
                f"| {label}, {run.name[-6:].replace('-', ' ')} | {first:.3f} | {min(values):.3f} | {values[-1]:.3f} "
                f"| {fmean(last):.3f} | {_scores(run)[-1][1]['value']:+.3f} |"
            )
    print("\nIn chips; 0 is an equilibrium, in which seat 1 loses 1/18 = 0.056. Uniform play has 0.458.")
    if args.plot:
        _plot(curves, args.plot)


def exploitability(model_dir: Path) -> dict[str, float]:
    """The exact numbers of a policy at temperature 1."""
    config = load_config("kuhnpoker", [(("policy", "path"), str(model_dir)), (("policy", "device"), "cpu")])
    model, tokenizer = load_policy_model(config.policy, torch.float32)
    exact = analyse(make_env(config.env.id), open_agents(config, tokenizer), {"": PolicyModel(model, tokenizer)}, 1.0)
    assert exact is not None, "Kuhn poker has a theory"
    return {**exact.values, "uncounted": exact.uncounted}


def _scores(run_dir: Path) -> list[tuple[int, dict[str, float]]]:
    """Of every checkpoint of a run, kept in a file beside them."""
    kept = run_dir / "exploitability.json"
    if not kept.is_file():
        folders = sorted((run_dir / "checkpoints").glob("step-*"))
        found = [(int(folder.name.partition("-")[2]), exploitability(folder / "model")) for folder in folders]
        kept.write_text(json.dumps(found))
    return [(step, values) for step, values in json.loads(kept.read_text())]


def _curve(run_dir: Path) -> list[tuple[int, float]]:
    return [(step, values["exploitability"]) for step, values in _scores(run_dir)]


def _plot(curves: dict[str, list[list[tuple[int, float]]]], path: Path) -> None:
    """One line a run, one colour a cell, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, (label, found) in enumerate(curves.items()):
        for place, curve in enumerate(found):
            steps, values = zip(*curve, strict=True)
            axes.plot(steps, values, color=f"C{number}", label=label if place == 0 else None, linewidth=1.3)
    axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="exploitability (chips)", title="Kuhn poker: self-play, one line a seed")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
