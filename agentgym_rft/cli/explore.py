"""`agentgym explore`: plays groups into an experience store, without training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agentgym_rft.cli.options import Override, accepts_config
from agentgym_rft.cli.settings import fresh_config, read_run_config, say_whose_seed, with_full_names, with_shorthands
from agentgym_rft.cli.trust import Trust, check_trust
from agentgym_rft.config.load import merge_overrides, validate_config
from agentgym_rft.config.run import Config
from agentgym_rft.report.terminal import say

INTERRUPTED = 130

_SHORT = {
    "env": ("env", "id"),
    "policy": ("policy", "path"),
    "store": ("store", "path"),
    "seed": ("run", "seed"),
    "data": ("env", "options", "data"),
}


@accepts_config(Config)
def explore_command(
    *,
    env: Annotated[str | None, typer.Option(help="Environment: id, short name, or module:Class.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Shipped recipe or YAML file; default: the environment's.")] = None,
    policy: Annotated[str | None, typer.Option(help="Short for --policy.path: who plays at first.")] = None,
    store: Annotated[str | None, typer.Option(help="Short for --store.path: the file that groups go into.")] = None,
    groups: Annotated[
        int | None, typer.Option(min=1, help="Groups in all; default: until the run that trains on them ends.")
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option(help="Run whose newest checkpoint plays; without --env and --recipe, with its configuration."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --run.seed.")] = None,
    data: Annotated[str | None, typer.Option(help="Short for --env.options.data.")] = None,
    trust: Trust = False,
    overrides: Sequence[Override] = (),
) -> None:
    """Play groups into an experience store; `agentgym train --store.replay_share=1` trains on it meanwhile, or later.

    The same command continues where it was stopped.
    """
    from agentgym_rft.trainers.learner.interruption import interruptible
    from agentgym_rft.trainers.sources.exploring import Exploration, Round, explore

    given = {"env": env, "policy": policy, "store": store, "seed": seed, "data": data}
    settings = with_shorthands(_SHORT, given, overrides)
    is_own_start = any(tuple(path) == ("policy", "path") for path, _ in settings)
    if follow is None or env is not None or recipe is not None:
        config, is_own_start = fresh_config(env, recipe, settings), True
    else:
        config = _followed_config(follow, settings)
    check_trust(config, recipe or follow, settings, trust)
    say_whose_seed(config)

    def show(done: Round) -> None:
        counts = done.accounting
        of = "" if groups is None else f" of {groups}"
        line = f"groups {done.num_begun}{of}, version {done.version}, written {counts.written}, unused {counts.unused}"
        say(line, err=True)

    with interruptible(partial(say, err=True), "this round is finished and stored first") as stopped:
        followed = None if follow is None else follow.absolute()  # an environment may change the working directory
        plan = Exploration(config, groups, followed, is_start_of_run=not is_own_start)
        accounting = explore(plan, is_stopped=stopped.is_set, on_round=show)
    say(f"store {config.store.path}: {accounting.written} groups written, {accounting.used} used")
    if stopped.is_set():
        raise typer.Exit(INTERRUPTED)


def _followed_config(run_dir: Path, settings: Sequence[Override]) -> Config:
    data: dict[str, Any] = dict(read_run_config(run_dir))
    return with_full_names(validate_config(merge_overrides(data, settings)))
