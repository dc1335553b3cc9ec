"""A real pretrained model, from "as it comes" to reinforcement, stage by stage.

    make real-model
    python benchmarks/real_model.py STAGE [STAGE ...] [--out runs/real] [--budget MINUTES] [--tasks 100]

Stages, in their order:

- `base`: the model as it comes, greedy, with the cards `think` and `plain`.
- `imitate`: `agentgym sft` on an expert's demonstrations, then on reports about its own episodes; evaluations of both.
- `grpo`, `r3l`: `agentgym train` from there, each until it has sampled `--sampled-tokens`; evaluations, greedy and at
  temperature 1.
- `reflect`: valid reports, and retries with its own guidance, without any, and with that of hindsight.
- `vllm`: the same weights sampled by `hf` and by vLLM's CPU build; run it with the Python of `.venv-vllm`.
- `report`: tables and curves of what is there.

A stage that is done is not repeated, and one that was stopped goes on. `--budget` stops a training run after so many
minutes, at the end of its step; the same command continues it. Results are JSON files in `--out`.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_model_report
import reflection
from real_model_report import num_steps

from agentgym_rft.config.load import load_config
from agentgym_rft.config.run import Config
from agentgym_rft.envs.making import make_env
from agentgym_rft.evaluation.partial import partial_path
from agentgym_rft.evaluation.run import Request, run_evaluation
from agentgym_rft.report.evaluation import write_summary
from agentgym_rft.rollouts.make import open_workers

RECIPE = "real_model"
IMITATION = {"imitate": "real_model_sft", "reports": "real_model_reports"}  # one after the other
SAMPLED = [(["eval", "temperature"], 1.0)]  # as reinforced runs play
THINK = {"action": {"max_tokens": 128}}
R3L = ("--algorithm.name=r3l", "--rollout.strategy=reflect_retry")  # all else of the recipe r3l is the default


@dataclass(frozen=True, slots=True)
class Study:
    """Where the study is, and how large."""

    model: Path
    out: Path
    budget_s: float | None  # of a training run
    tasks: int  # of each evaluation
    sampled_tokens: int  # of each reinforced run
    episodes: int  # that are reported on
    threads: int | None = None  # of torch; None: all cores
    imitation_tokens: int | None = None  # trained ones; None: those of the recipe


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
    own = {"path": str(policy), "num_threads": study.threads}
    return load_config(RECIPE, [(["policy"], own), (["eval", "num_tasks"], study.tasks), *settings])


def base(study: Study) -> None:
    """Evaluate the model as it comes; with `think`, which lists admissible actions, it may write 128 tokens a turn."""
    evaluate(study, "base_plain", study.model)
    listed = [(["env", "options"], {"admissible": True}), (["agent"], {"card": "think", "overrides": THINK})]
    evaluate(study, "base_think", study.model, [*listed, (["policy", "max_context"], 4096)])


def imitate(study: Study) -> None:
    """Imitate the expert, then learn to report; evaluate both."""
    start = study.model
    for name, recipe in IMITATION.items():
        run = trained(study, name, sft_command(study, recipe, start))
        if run is None:
            return
        start = run / "model"
        evaluate(study, name, start)
    evaluate(study, "reports_sampled", start, SAMPLED)


def sft_command(study: Study, recipe: str, start: Path) -> list[str]:
    given = ["sft", "--recipe", recipe, "--init", str(start), "--eval.num_tasks=0"]
    if study.threads is not None:
        given.append(f"--num_threads={study.threads}")
    if study.imitation_tokens is not None and recipe == IMITATION["imitate"]:
        given.append(f"--sft.tokens={study.imitation_tokens}")
    return given


def reinforce(study: Study, name: str, arguments: Sequence[str] = ()) -> None:
    """Train from the imitation until so many tokens are sampled or the budget ends, then evaluate what is there."""
    threads = [] if study.threads is None else [f"--policy.num_threads={study.threads}"]
    given = ["train", "--recipe", RECIPE, "--policy", str(imitated(study)), "--eval.num_tasks=0", *threads, *arguments]
    trained(study, name, [*given, f"--trainer.max_generated_tokens={study.sampled_tokens}"])
    done = f"{name}-{num_steps(study.out / name)}"
    evaluate(study, done, study.out / name)
    evaluate(study, f"{done}_sampled", study.out / name, SAMPLED)


def imitated(study: Study) -> Path:
    """Return the model that reinforcement starts from."""
    return study.out / list(IMITATION)[-1] / "model"


def reflect(study: Study) -> None:
    """Measure the reports of the policies that can write them, and retries with three kinds of guidance."""
    found = {"reports": imitated(study), "r3l": study.out / "r3l"}
    for name, policy in found.items():
        path = study.out / f"reflection_{name}.json"
        if path.exists() or not policy.exists():
            continue
        config = study_config(study, policy)
        workers = open_workers(config)
        judge = make_env(config.env.id, config.env.options)
        cases = reflection.play(workers, judge, config.eval.split, study.episodes, config.rollout.max_steps)
        measured = reflection.measure(cases, workers.card.reflect.temperature)
        path.write_text(json.dumps({"policy": name, **measured}, indent=1))
        print(f"{path}: valid reports {measured['valid_reports']['rate']:.2f}", flush=True)


def vllm(study: Study) -> None:
    """Compare `hf` and vLLM on the imitated model, or on the model as it comes."""
    import real_model_vllm

    path = study.out / "vllm.json"
    if not path.exists():
        folder = imitated(study) if imitated(study).is_dir() else study.model
        path.write_text(json.dumps(real_model_vllm.compare(folder), indent=1))
    print(path.read_text())


def trained(study: Study, name: str, arguments: Sequence[str]) -> Path | None:
    """Begin or continue a run; returns its directory, or None if the budget ended first."""
    run, done = study.out / name, study.out / f"{name}.done"
    if not done.exists():
        is_begun = (run / "config.yaml").is_file()
        given = [arguments[0], "--resume", str(run)] if is_begun else [*arguments, "--out", str(run)]
        if not run_command(given, study.out / f"{name}.log", study.budget_s):
            print(f"{name}: the budget ended; the same command continues it.", flush=True)
            return None
        done.touch()
    return run


def run_command(arguments: Sequence[str], log: Path, budget_s: float | None) -> bool:
    """Run an `agentgym` command; returns whether it ended by itself.

    After `budget_s` seconds it is interrupted as by Ctrl-C: it finishes its step, keeps what it has and can be resumed.
    """
    with log.open("a") as file:
        command = [sys.executable, "-m", "agentgym_rft.cli.main", *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            code = process.wait(budget_s)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.send_signal(signal.SIGINT)
            process.wait()
            return False
    if code:
        raise SystemExit(f"agentgym {arguments[0]} failed with exit code {code}, see {log}.")
    return True


STAGES: dict[str, Callable[[Study], None]] = {
    "base": base,
    "imitate": imitate,
    "grpo": lambda study: reinforce(study, "grpo"),
    "r3l": lambda study: reinforce(study, "r3l", R3L),
    "reflect": reflect,
    "vllm": vllm,
    "report": lambda study: real_model_report.write(study.out),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--budget", type=float, help="minutes of a training run; default: until it is done")
    parser.add_argument("--tasks", type=int, default=100, help="of each evaluation")
    parser.add_argument("--sampled-tokens", type=int, default=1_000_000, help="of each reinforced run")
    parser.add_argument("--episodes", type=int, default=64, help="that are reported on")
    parser.add_argument("--threads", type=int, help="of torch; 1 for two runs at once on two cores")
    parser.add_argument("--imitation-tokens", type=int, help="trained ones of `imitate`; fewer leave more to learn")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    budget_s = None if args.budget is None else 60 * args.budget
    study = Study(
        args.model,
        args.out,
        budget_s,
        args.tasks,
        args.sampled_tokens,
        args.episodes,
        args.threads,
        args.imitation_tokens,
    )
    for stage in args.stages:
        STAGES[stage](study)


if __name__ == "__main__":
    main()
