"""`agentgym train`: one run of reinforcement fine-tuning."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.agents.policies.names import model_name, renamed
from agentgym_rft.agents.policies.seeds import is_seed
from agentgym_rft.cli.options import Override, accepts_config
from agentgym_rft.cli.settings import fresh_config, resumed_config, say_whose_seed, with_shorthands
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError

INTERRUPTED = 130

_SHORT = {
    "env": ("env", "id"),
    "policy": ("policy", "path"),
    "steps": ("trainer", "steps"),
    "seed": ("run", "seed"),
    "out": ("run", "out"),
    "workers": ("rollout", "workers"),
    "data": ("env", "options", "data"),
}


@accepts_config(Config)
def train_command(
    *,
    env: Annotated[str | None, typer.Option(help="Environment: id, short name, or module:Class.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Shipped recipe or YAML file; default: the environment's.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Short for --policy.path: seed, a model directory, or a run (its last model).")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Short for --trainer.steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --run.seed.")] = None,
    out: Annotated[str | None, typer.Option(help="Short for --run.out.")] = None,
    workers: Annotated[str | None, typer.Option(help="Short for --rollout.workers.")] = None,
    data: Annotated[str | None, typer.Option(help="Short for --env.options.data.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory.")] = None,
    overrides: Sequence[Override] = (),
) -> None:
    """Train an agent in an environment.

    Every configuration key is an option. Defaults shown are those of a run without a recipe; a recipe sets its own.
    """
    from agentgym_rft.cli.stages import begin_stages, is_staged_run, resume_stages, staged_recipe

    given = {"env": env, "policy": policy, "steps": steps, "seed": seed, "out": out, "workers": workers, "data": data}
    if resume is not None and is_staged_run(resume):
        if overrides or any(value is not None for value in (*given.values(), recipe)):
            raise ConfigError("A run with stages goes on as it was begun: leave out all options but --resume.")
        resume_stages(resume)
        return
    if (staged := staged_recipe(recipe)) is not None:
        given_overrides = with_shorthands(_SHORT, given, overrides)
        begin_stages(staged, Path(out or f"runs/stages-{time.strftime('%Y%m%d-%H%M%S')}"), given_overrides)
        return
    if resume is None:
        config = fresh_config(env, recipe, with_shorthands(_SHORT, given, overrides))
    elif env is not None or recipe is not None:
        raise ConfigError("A resumed run keeps its environment and recipe: leave out --env and --recipe.")
    else:
        config = resumed_config(resume, with_shorthands(_SHORT, given, overrides))
    if is_leading():
        say_whose_seed(config)
    run_train(config, resume)


def is_leading() -> bool:
    """True in the first of the processes that torchrun started, and without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def run_train(config: Config, resume: Path | None, go_on: str | None = None) -> None:
    """A training run, shown on the terminal; `go_on` is the command that goes on with it after an interruption."""
    from agentgym_rft.report.html import write_report
    from agentgym_rft.report.progress import make_progress
    from agentgym_rft.rollouts.policies import policy_dir
    from agentgym_rft.trainers.loop import train

    name = config.policy.path
    if not is_seed(model_name(name)):  # a run's newest checkpoint changes; the record says which one it was
        policy = config.policy.model_copy(update={"path": renamed(name, str(policy_dir(name)))})
        config = config.model_copy(update={"policy": policy})
    if not is_leading():  # torchrun started several processes, and the first one speaks for all
        train(config, resume=resume)
        return
    progress = make_progress()
    try:
        result = train(config, resume=resume, progress=progress)
    finally:
        progress.finish()
    report = write_report(result.run_dir)
    if len(result.evaluations) > 1:
        typer.echo(_change(result.evaluations[0], result.evaluations[-1]))
    typer.echo(f"report {report}")
    typer.echo(f"run {result.run_dir}")
    if result.is_interrupted:
        command = go_on or f"agentgym train --resume {result.run_dir}"
        typer.echo(f"interrupted after step {result.num_steps}; go on with: {command}")
        raise typer.Exit(INTERRUPTED)


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    rates = " -> ".join(_rate(summary) for summary in (before, after))
    return f"success on {after['num_tasks']} tasks of {after['split']}: {rates} (95 % intervals)"


def _rate(summary: Mapping[str, Any]) -> str:
    from agentgym_rft.report.tables import percent

    low, high = summary["success_ci95"]
    return f"{percent(summary['success'])} ({100 * low:.1f} - {100 * high:.1f})"
