"""Make the embedded seed policy again and write its card.

    python benchmarks/seed_policy.py --out runs/seed [--first runs/seed-first] [--tasks 200] [--install]

Runs `agentgym sft --recipe seed` into `--first`, from there `--recipe seed_reflect` beside it and from there, at lower
rates and with more demonstrations, into `--out` (each unless it is there already). Evaluates the policy greedily on the
generated splits, measures its reports and its retries with `reflection.py`, and writes the card beside the weights.
`--install` puts it into the package as the seed policy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe

from agentgym_rft.agents.policies.loading import load_model
from agentgym_rft.envs.draws import GENERATOR_VERSION
from agentgym_rft.report.metrics import read_metrics

SPLITS = ("train", "valid_seen", "valid_unseen")
SEED_POLICY = Path(__file__).parent.parent / "agentgym_rft" / "agents" / "policies" / "seed" / "alfworld"
REPORT_ROWS = {
    "valid reports": "valid_reports",
    "reports with the right outcome": "right_outcome",
    "pivot within one turn of hindsight": "pivot_within_1",
}
REFLECT = ("sft", "--env", "alfworld", "--recipe", "seed_reflect")
SETTLE = (  # brings back the play that the first round of reflection cost
    *("--sft.tokens=3500000", "--sft.reflection_share=0.2", "--sft.guided_share=0.12", "--sft.learning_rate=0.0015"),
    *("--sft.matrix_learning_rate=0.01", "--sft.cooldown_fraction=0.9"),
)
FACTS = "training.json"  # where the training took place, beside the weights


def agentgym(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "agentgym_rft.cli.main", *args], check=True)


def evaluate(model: Path, out: Path, split: str, tasks: int) -> dict[str, Any]:
    """The result of a greedy evaluation; kept in `out` and not repeated."""
    path = out / f"eval_{split}.json"
    if not path.exists():
        command = ("eval", "--env", "alfworld", "--policy", str(model), "--split", split, "--tasks", str(tasks))
        agentgym(*command, "--temperature", "0", "--out", str(path))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def reflection(model: Path, out: Path) -> dict[str, Any]:
    """What `reflection.py` measures; kept in `out` and not repeated."""
    path = out / "reflection.json"
    if not path.exists():
        script = Path(__file__).parent / "reflection.py"
        subprocess.run([sys.executable, str(script), "--policy", str(model), "--out", str(path)], check=True)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def training_facts(out: Path) -> dict[str, Any]:
    """What the training did and on which machine, noted once."""
    path = out / FACTS
    if not path.exists():
        last = read_metrics(out / "metrics.jsonl")[-1]
        path.write_text(json.dumps({"machine": describe(), **last}))
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def card(out: Path, runs: Sequence[Path], results: list[dict[str, Any]], reports: dict[str, Any]) -> str:
    parameters = sum(weight.numel() for weight in load_model(out / "model")[0].parameters())
    trainings = "\n".join(training(f"Run {number}", run) for number, run in enumerate(runs, 1))
    lines = f"""# The embedded seed policy

A Qwen3-shaped decoder of {parameters:,} parameters with a byte-level BPE tokenizer. It was trained from random weights
by `agentgym sft --env alfworld --recipe seed` on won episodes of the searching expert, which knows only what it
observes, in generated `train` games (generator version {GENERATOR_VERSION}); then by
`agentgym sft --env alfworld --recipe seed_reflect`, twice, on reports about its own episodes and on retries guided by
them. A start for reinforcement fine-tuning with room left, not a good player. `config.yaml` beside this file is the
last run's.

{trainings}

| split | tasks | greedy success | 95 % interval | mean turns | panel |
|---|---|---|---|---|---|""".splitlines()
    for result in results:
        low, high = result["success_ci95"]
        lines.append(
            f"| {result['split']} | {result['num_tasks']} | {100 * result['success']:.1f} % "
            f"| {100 * low:.1f} to {100 * high:.1f} | {result['mean_turns']:.1f} | {result['panel_hash'][:16]} |"
        )
    lines += ["", f"On {reports['split']}, {reports['episodes']} episodes at temperature 1:", ""]
    lines += ["| measure | n | rate | 95 % interval |", "|---|---|---|---|"]
    lines += [rate_row(name, reports[key]) for name, key in REPORT_ROWS.items()]
    lines += [rate_row(f"{kind} retries won", numbers) for kind, numbers in reports["retries"].items()]
    return "\n".join(lines) + "\n"


def training(name: str, out: Path) -> str:
    """One line about a training run."""
    facts = training_facts(out)
    return (
        f"{name}: {facts['tokens/total'] / 1e6:.1f} M tokens, {facts['step']} optimizer steps, "
        f"{facts['time_s'] / 60:.0f} minutes on {facts['machine']}; last action loss {facts['loss/action']:.3f} nats a "
        "token."
    )


def rate_row(name: str, numbers: dict[str, Any]) -> str:
    low, high = numbers["ci95"]
    return f"| {name} | {numbers['n']} | {100 * numbers['rate']:.1f} % | {100 * low:.1f} to {100 * high:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--first", type=Path, help="result of the recipe `seed`; default: beside --out")
    args = parser.parse_args()
    first = args.first or args.out.with_name(f"{args.out.name}-first")
    second = args.out.with_name(f"{args.out.name}-second")
    model = args.out / "model"
    if not (first / "model").is_dir():
        agentgym("sft", "--env", "alfworld", "--recipe", "seed", "--out", str(first))
    if not (second / "model").is_dir():
        agentgym(*REFLECT, "--init", str(first), "--out", str(second))
    if not model.is_dir():
        agentgym(*REFLECT, "--init", str(second), "--out", str(args.out), *SETTLE)
    results = [evaluate(model, args.out, split, args.tasks) for split in SPLITS]
    text = card(args.out, (first, second, args.out), results, reflection(model, args.out))
    (model / "README.md").write_text(text)
    shutil.copy(args.out / "config.yaml", model / "config.yaml")
    print(text)
    if args.install:
        shutil.copytree(model, SEED_POLICY, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
