"""What the parts of benchmarks/multi_agent.py share: a table's cells and their runs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runs import Run, train_all


@dataclass(frozen=True)
class Cell:
    """One row of a table: a recipe, what is set beside it, and what it starts from (None: the recipe's policy)."""

    label: str
    recipe: str
    settings: tuple[str, ...] = ()
    start: str | None = None


def seed_policy(out: Path, recipe: str, *arguments: str) -> Path:
    """What `agentgym sft` with a shipped recipe gives, made once."""
    folder = out / recipe
    if not (folder / "model" / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "agentgym_rft.cli.main", "sft", "--recipe", recipe, "--out", str(folder)]
        subprocess.run([*command, *arguments], check=True, stdout=sys.stderr)
    return folder


def run_of(cell: Cell, seed: int, out: Path) -> Run:
    name = cell.label.replace(" ", "_").replace(",", "").replace("+", "and").replace("/", "-")
    start = () if cell.start is None else ("--policy", str(out / cell.start))
    arguments = ("--recipe", cell.recipe, *start, "--seed", str(seed), *cell.settings)
    return Run(out / f"{name}-seed-{seed}", arguments)


def done_runs(cells: Sequence[Cell], out: Path, args: argparse.Namespace) -> dict[str, list[Path]]:
    """The finished run directories of each cell, after doing those that are not done."""
    cells = [cell for cell in cells if not args.only or cell.label in args.only]
    if not args.print_only:
        train_all([run_of(cell, seed, out) for seed in args.seeds for cell in cells], args.jobs, keep_going=True)
    runs = {cell.label: [run_of(cell, seed, out) for seed in args.seeds] for cell in cells}
    return {label: [run.run_dir for run in row if run.is_done] for label, row in runs.items()}
