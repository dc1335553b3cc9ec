"""A real pretrained model, from "as it comes" to reinforcement, stage by stage.

    make real-model
    python benchmarks/real_model.py STAGE [STAGE ...] [--out runs/real] [--budget MINUTES] [--tasks 100]

Stages, in their order:

- `base`: the model as it comes, greedy, with the cards `think` and `plain`.
- `imitate`: `agentgym sft` on an expert's demonstrations, then on reports about its own episodes; evaluations after both.
- `grpo`, `r3l`: `agentgym train` from there, each until it has sampled `--sampled-tokens`; evaluations.
- `reflect`: valid reports, and retries with its own guidance, without any, and with that of hindsight.
- `vllm`: the same weights sampled by `hf` and by vLLM's CPU build; run it with the Python of `.venv-vllm`.
- `report`: tables and curves of what is there.

A stage that is done is not repeated, and one that was stopped goes on. `--budget` stops a training run after so many
minutes, at the end of its step; the same command continues it. Results are JSON files in `--out`.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym_rft.config.load import load_config
from agentgym_rft.config.run import Config
from agentgym_rft.evaluation.partial import partial_path
from agentgym_rft.evaluation.run import Request, run_evaluation
from agentgym_rft.report.evaluation import write_summary

RECIPE = "real_model"
THINK = {"action": {"max_tokens": 128}}
R3L = (
    "--algorithm.name=r3l",
    "--algorithm.options={variant: paper, alpha: 3.0}",
    "--rollout.strategy=reflect_retry",
    "--rollout.reflect={reflector: self, restart: pivot, distill: true, auxiliary: true, verified_rule: paper}",
)


@dataclass(frozen=True, slots=True)
class Study:
    """Where the study is, and how large."""

    model: Path
    out: Path
    budget_s: float
    tasks: int
    sampled_tokens: int
    recipe: str = RECIPE
    sft_overrides: tuple[str, ...] = ()


def evaluate(study: Study, name: str, policy: Path, settings: Sequence[tuple[list[str], Any]] = ()) -> None:
    """Play the panel greedily, unless the result is there; finished episodes of a stopped evaluation are kept."""
    path = study.out / f"{name}.json"
    if path.exists():
        print(f"{path} is there.")
        return
    config = study_config(study, policy, settings)
    summary = run_evaluation(Request(config, str(policy), out=path))
    write_summary(path, summary)
    partial_path(path).unlink(missing_ok=True)
    print(f"{name}: success {summary['success']:.3f} {summary['success_ci95']}", flush=True)


def study_config(study: Study, policy: Path, settings: Sequence[tuple[list[str], Any]] = ()) -> Config:
    own = [(["policy", "path"], str(policy)), (["eval", "num_tasks"], study.tasks)]
    return load_config(study.recipe, [*own, *settings])


def base(study: Study) -> None:
    evaluate(study, "base_plain", study.model)
    listed = [(["env", "options"], {"admissible": True}), (["agent"], {"card": "think", "overrides": THINK})]
    evaluate(study, "base_think", study.model, [*listed, (["policy", "max_context"], 4096)])


def run_command(arguments: Sequence[str], log: Path, budget_s: float) -> bool:
    """Run an `agentgym` command; returns whether it ended by itself.

    After `budget_s` seconds it is interrupted as by Ctrl-C: it finishes its step, keeps what it has and can be resumed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        command = [sys.executable, "-m", "agentgym_rft.cli.main", *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            code = process.wait(budget_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return False
        except KeyboardInterrupt:
            process.wait()  # it got the signal, too
            raise
    if code:
        raise SystemExit(f"agentgym {arguments[0]} failed with exit code {code}, see {log}.")
    return True


def trained(study: Study, name: str, arguments: Sequence[str]) -> Path | None:
    """Begin or continue a run; returns its directory, or None if the budget ended first."""
    run, done = study.out / name, study.out / f".{name}.done"
    if not done.exists():
        is_begun = (run / "config.yaml").is_file()
        command = arguments[0]
        given = [command, "--resume", str(run)] if is_begun else [*arguments, "--out", str(run)]
        if not run_command(given, study.out / f"{name}.log", study.budget_s):
            print(f"{name}: the budget ended; the same command continues it.", flush=True)
            return None
        done.touch()
    return run


def reinforce(study: Study, name: str, arguments: Sequence[str] = ()) -> None:
    """Train from the imitation until so many tokens are sampled, then evaluate."""
    start = study.out / "reports" / "model"
    given = ["train", "--recipe", study.recipe, "--policy", str(start), *arguments]
    run = trained(study, name, [*given, f"--trainer.max_generated_tokens={study.sampled_tokens}"])
    if run is not None:
        evaluate(study, name, run)
