"""`agentgym sft`: supervised fine-tuning on demonstrations of an environment's expert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft import registry
from agentgym_rft.cli.options import Override, accepts_config
from agentgym_rft.cli.settings import resumed_sft_config, with_shorthands
from agentgym_rft.cli.training import INTERRUPTED
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.load import load_sft_config
from agentgym_rft.config.sft import SftConfig
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say, shown_path

_SHORT = {"env": ("env", "id"), "data": ("env", "options", "data"), "seed": ("run", "seed"), "out": ("run", "out")}


@accepts_config(SftConfig)
def sft_command(
    *,
    env: Annotated[str | None, typer.Option(help="Environment: id, short name, or module:Class.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Shipped recipe or YAML file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --run.seed.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Short for --run.out; the model is saved in its folder model.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Short for --env.options.data.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this directory.")] = None,
    trust: Trust = False,
    overrides: Sequence[Override] = (),
) -> None:
    """Train a model on an expert's demonstrations, from scratch or from --init, and save it in Hugging Face format."""
    given = with_shorthands(_SHORT, {"env": env, "data": data, "seed": seed, "out": out}, overrides)
    if resume is None:
        config = load_sft_config(recipe, given)
    elif env is not None or recipe is not None:
        raise ConfigError("A resumed run keeps its environment and recipe: leave out --env and --recipe.")
    else:
        config = resumed_sft_config(resume, given)
    check_trust(config, resume or recipe, given, trust)
    env_section = config.env.model_copy(update={"id": registry.resolve_env_id(config.env.id)})
    run_sft(config.model_copy(update={"env": env_section}), resume)


def run_sft(config: SftConfig, resume: Path | None = None, go_on: str | None = None) -> None:
    """A supervised run, shown on the terminal; `go_on` is the command that goes on with it after an interruption."""
    from agentgym_rft.report.sft_progress import SftLines
    from agentgym_rft.trainers.checks import check_sft
    from agentgym_rft.trainers.sft.run import imitate

    check_sft(config)
    result = imitate(config, resume=resume, shown=SftLines())
    if result.is_interrupted:
        command = go_on or f"agentgym sft --resume {shown_path(result.run_dir)}"
        say(f"interrupted after step {result.num_steps}; go on with: {command}")
        raise typer.Exit(INTERRUPTED)
    say(f"model {shown_path(result.run_dir / 'model')}")
