"""Algorithms against each other: same seed policy, same number of sampled tokens, several seeds.

    python benchmarks/algorithms.py methods --out runs/algorithms [--tokens N] [--seeds 0 1 2] [--jobs 2] [--data DIR]

Tables: `methods` (R3L and its ablations against seven other methods), `rates` (three of them at a lower learning rate),
`entropy` (entropy controls on GRPO) and `staleness` (steps between hand-overs of weights). Each cell is one run
of `agentgym train` with a shipped recipe until it has sampled `--tokens` tokens (reflections and retries
included), then an evaluation on 200 unseen generated tasks; with `--data`, the first seed is evaluated on the real
`valid_seen`, too. Failures weigh 1, as in the recipes, but for `entropy` and the row that says 0.1. Runs that are there
already are not repeated; `--print` only prints what is there, and says what is not. Everything after `--` goes to
every run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import describe
from runs import Run, train_all

from agentgym_rft.report.evaluation import read_evaluations
from agentgym_rft.report.intervals import mean_ci
from agentgym_rft.report.metrics import Row, column, read_metrics

REAL = "real.json"


@dataclass(frozen=True)
class Cell:
    """One row of a table: a recipe and what is set beside it."""

    label: str
    recipe: str
    settings: tuple[str, ...] = ()


def control(label: str, *settings: str) -> Cell:
    """GRPO in which failures weigh little, with an entropy control."""
    return Cell(label, "grpo", ("--algorithm.negative_weight=0.1", *settings))


def published(label: str, recipe: str, *settings: str) -> Cell:
    """A method with the weights of its recipe."""
    return Cell(label, recipe, settings)


def stale(recipe: str, interval: int, *own: str) -> Cell:
    """Steps of 2 tasks instead of 8, so that there are enough of them."""
    settings = (f"--trainer.sync_interval={interval}", "--rollout.num_tasks=2", "--trainer.num_minibatches=2")
    return published(f"{recipe}, interval {interval}", recipe, *settings, *own)


TABLES: dict[str, tuple[Cell, ...]] = {
    "methods": (
        published("R3L", "r3l", "--rollout.reflect.measure_pivots=true"),
        published("GRPO", "grpo"),
        control("GRPO, failures weigh 0.1"),
        published("Reflect-GRPO", "reflect_grpo"),
        published("Critique-GRPO", "critique_grpo"),
        published("OPMD", "opmd"),
        published("RAFT", "raft"),
        published("GSPO", "gspo"),
        published("GiGPO", "gigpo"),
        published("R3L, reflections by hindsight", "r3l", "--rollout.reflect.reflector=hindsight"),
        published("R3L without amplification", "r3l", "--algorithm.options.amplify=false"),
        published("R3L without pivotal credit", "r3l", "--algorithm.options.pivot=false"),
        published("R3L without reflection", "r3l", "--rollout.strategy=plain"),
    ),
    "rates": tuple(
        published(label, recipe, "--trainer.learning_rate=3e-4")
        for label, recipe in (("R3L", "r3l"), ("GRPO", "grpo"), ("OPMD", "opmd"))
    ),
    "entropy": (
        control("GRPO"),
        control("clip-higher", "--algorithm.clip_high=0.28"),
        control("Clip_B", "--algorithm.controls=[clip_b]"),
        control("Clip_V", "--algorithm.controls=[clip_v]"),
        control("Clip-Cov", "--algorithm.controls=[clip_cov]"),
        control("KL-Cov", "--algorithm.controls=[kl_cov]"),
        control("EPO", "--algorithm.controls=[epo]"),
        control("target entropy", "--algorithm.controls=[target_entropy]"),
    ),
    "staleness": tuple(
        stale(recipe, interval, *own)
        for recipe, *own in (("opmd",), ("grpo", "--algorithm.options.anchor=behaviour"), ("r3l",))
        for interval in (1, 5, 10, 20)
    ),
}


def make_run(out: Path, cell: Cell, seed: int, args: argparse.Namespace) -> Run:
    """The run of a cell and seed."""
    run_dir = out / cell.label.replace(" ", "_").replace(",", "") / f"seed-{seed}"
    budget = ("--trainer.steps=100000", f"--trainer.max_generated_tokens={args.tokens}")
    quiet = ("--eval.at_start=false", "--run.checkpoint_every=100000", "--run.save_trajectories=false")
    arguments = ("--recipe", cell.recipe, "--seed", str(seed), *budget, *quiet, *cell.settings, *args.overrides)
    real = ("eval", "--env", "alfworld", "--data", str(args.data), "--split", "valid_seen", "--tasks", "140")
    real = (*real, "--policy", str(run_dir), "--out", str(run_dir / REAL))
    return Run(run_dir, arguments, (real,) if args.data and seed == args.seeds[0] else ())


def area(rows: Sequence[Row]) -> float:
    """Mean success of plain training episodes over the sampled tokens (trapezoids)."""
    tokens = np.cumsum(column(list(rows), "rollout/generated_tokens")[1])
    success = np.array(column(list(rows), "episode/success")[1])
    return float(np.trapezoid(success, tokens) / (tokens[-1] - tokens[0])) if len(rows) > 1 else float("nan")


@dataclass(frozen=True)
class Result:
    """What a finished run gave."""

    rows: list[Row]
    success: float
    real: float | None


def read(run: Run) -> Result:
    """The result in a run's directory."""
    real = run.run_dir / REAL
    return Result(
        read_metrics(run.run_dir / "metrics.jsonl"),
        read_evaluations(run.run_dir)[-1][1]["success"],
        json.loads(real.read_text())["success"] if real.exists() else None,
    )


def spread(values: Sequence[float], scale: float = 100, digits: int = 1) -> str:
    """Mean with the 95 % t interval; for fewer than three seeds, what each gave."""
    scaled = [scale * value for value in values]
    if len(scaled) < 3:
        return ", ".join(f"{value:.{digits}f}" for value in scaled)
    mean, interval = mean_ci(scaled)
    return f"{mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def mean_of(results: Sequence[Result], key: str) -> float:
    return float(np.mean([np.mean(column(result.rows, key)[1] or [np.nan]) for result in results]))


def first_of(results: Sequence[Result], key: str) -> float:
    return float(np.mean([np.mean(column(result.rows, key)[1][:3] or [np.nan]) for result in results]))


def last_of(results: Sequence[Result], key: str) -> float:
    return float(np.mean([np.mean(column(result.rows, key)[1][-3:] or [np.nan]) for result in results]))


def correlation(results: Sequence[Result]) -> float:
    """Of predicted and measured change of entropy, over the steps of all runs."""
    pairs = [
        (row["entropy/predicted_delta"], row["entropy/measured_delta"])
        for result in results
        for row in result.rows
        if row.get("entropy/measured_delta") is not None
    ]
    return float(np.corrcoef(np.array(pairs).T)[0, 1]) if len(pairs) > 2 else float("nan")


Column = tuple[str, Callable[[Sequence[Result]], str]]

SUCCESS: tuple[Column, ...] = (
    ("seeds", lambda results: str(len(results))),
    ("unseen tasks, %", lambda results: spread([result.success for result in results])),
    (
        "real valid_seen, first seed, %",
        lambda results: "-" if results[0].real is None else f"{100 * results[0].real:.1f}",
    ),
    ("area under the curve, %", lambda results: spread([area(result.rows) for result in results])),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "methods": (
        *SUCCESS,
        ("steps", lambda results: f"{np.mean([len(result.rows) for result in results]):.1f}"),
        ("env turns a step", lambda results: f"{mean_of(results, 'rollout/turns'):.0f}"),
        ("trained tokens a step", lambda results: f"{mean_of(results, 'tokens/action'):.0f}"),
        ("entropy at the end", lambda results: f"{last_of(results, 'entropy/mean'):.3f}"),
        ("invalid actions at the end, %", lambda r: f"{100 * last_of(r, 'episode/invalid_actions'):.0f}"),
    ),
    "entropy": (
        *SUCCESS,
        ("entropy, first steps", lambda results: f"{np.mean([r.rows[0]['entropy/mean'] for r in results]):.3f}"),
        ("entropy at the end", lambda results: f"{last_of(results, 'entropy/mean'):.3f}"),
        ("tokens dropped, %", lambda results: f"{100 * mean_of(results, 'filter/dropped_fraction'):.2f}"),
        ("predicted/measured correlation", lambda results: f"{correlation(results):.2f}"),
    ),
    "rates": SUCCESS,
    "staleness": SUCCESS,
}


def print_table(name: str, done: dict[str, list[Result]]) -> None:
    """The table in Markdown; cells without a finished run are marked."""
    columns = COLUMNS[name]
    print("| | " + " | ".join(title for title, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for label, results in done.items():
        cells = [show(results) for _, show in columns] if results else ["not run"] + [""] * (len(columns) - 1)
        print(f"| {label} | " + " | ".join(cells) + " |")


def print_reflection(done: dict[str, list[Result]]) -> None:
    """How reports and retries did in the first and last three steps, of the cells that reflect."""
    keys = ("reflect/valid", "reflect/pivot_near", "reflect/improved")
    print("\n| | " + " | ".join(f"{key}, first to last" for key in keys) + " |\n" + "|---" * (len(keys) + 1) + "|")
    for label, results in done.items():
        if results and "reflect/valid" in results[0].rows[0]:
            cells = [f"{first_of(results, key):.2f} to {last_of(results, key):.2f}" for key in keys]
            print(f"| {label} | " + " | ".join(cells) + " |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=sorted(TABLES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=100_000, help="sampled tokens a run")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--data", type=Path, help="real games, in ALFWorld's layout")
    parser.add_argument("--only", nargs="+", help="labels of the cells to run")
    parser.add_argument("--plot", type=Path, help="PNG of entropy and success over the steps (extra 'plot')")
    parser.add_argument("--print", action="store_true", dest="print_only")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    return parser.parse_args(sys.argv[1:at], argparse.Namespace(overrides=sys.argv[at + 1 :]))


def plot(done: dict[str, list[Result]], path: Path) -> None:
    """Success and entropy over the steps, one line a cell: the mean of its seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=150, layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("episode/success", "entropy/mean"), strict=True):
        for label, results in done.items():
            curves = [column(result.rows, key)[1] for result in results]
            if curves:
                length = min(map(len, curves))
                axes.plot(np.arange(1, length + 1), np.mean([curve[:length] for curve in curves], axis=0), label=label)
        axes.set(xlabel="step", ylabel=key)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, format="png")


def main() -> None:
    args = parse()
    out = args.out / args.table
    cells = [cell for cell in TABLES[args.table] if not args.only or cell.label in args.only]
    if not args.print_only:
        train_all(
            [make_run(out, cell, seed, args) for seed in args.seeds for cell in cells], args.jobs, keep_going=True
        )
    runs = {cell.label: [make_run(out, cell, seed, args) for seed in args.seeds] for cell in cells}
    done = {label: [read(run) for run in row if run.is_done] for label, row in runs.items()}
    share = max(len(os.sched_getaffinity(0)) // args.jobs, 1)
    print(f"{describe()}; {share} core(s) a run; {args.tokens} sampled tokens a run\n")
    print_table(args.table, done)
    if args.table == "methods":
        print_reflection(done)
    if args.plot:
        plot(done, args.plot)


if __name__ == "__main__":
    main()
