"""`agentgym train`: one run of reinforcement fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.cli.options import Override, accepts_config
from agentgym_rft.cli.settings import fresh_config, resumed_config, say_whose_seed, with_shorthands
from agentgym_rft.cli.training import run_train
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.run import Config
from agentgym_rft.errors import ConfigError
from agentgym_rft.trainers.learner.launcher import is_leading

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
    trust: Trust = False,
    overrides: Sequence[Override] = (),
) -> None:
    """Train an agent in an environment.

    Every configuration key is an option, --section.key=value.
    """
    from agentgym_rft.cli.stages import begin_stages, is_staged_run, resume_stages, staged_recipe

    given = {"env": env, "policy": policy, "steps": steps, "seed": seed, "out": out, "workers": workers, "data": data}
    if resume is not None and is_staged_run(resume):
        if overrides or any(value is not None for value in (*given.values(), recipe)):
            raise ConfigError("A run with stages goes on as it was begun: leave out all options but --resume.")
        resume_stages(resume.absolute(), trust)
        return
    if (staged := staged_recipe(recipe)) is not None:
        folder = Path(out or f"runs/stages-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
        begin_stages(staged, folder, with_shorthands(_SHORT, given, overrides), str(recipe), trust)
        return
    settings = with_shorthands(_SHORT, given, overrides)
    if resume is None:
        config = fresh_config(env, recipe, settings)
    elif env is not None or recipe is not None:
        raise ConfigError("A resumed run keeps its environment and recipe: leave out --env and --recipe.")
    else:
        config = resumed_config(resume, settings)
    check_trust(config, resume or recipe, settings, trust)
    if is_leading():
        say_whose_seed(config)
    run_train(config, resume)
