"""`agentgym check-env`: does an environment keep the contract?"""

from __future__ import annotations

from typing import Annotated

import typer

from agentgym_rft import registry


def check_env_command(
    name: Annotated[str, typer.Argument(help="Environment: id, short name, or module:Class.")],
    split: Annotated[str, typer.Option(help="Split that tasks are taken from.")] = "train",
    data: Annotated[str | None, typer.Option(help="Data directory, for environments that take one.")] = None,
) -> None:
    """Check that an environment keeps the contract; the first broken rule is named, and the exit code is 1."""
    from agentgym_rft.envs import check_env

    env_id = registry.resolve_env_id(name)
    options = {} if data is None else {"data": data}
    rules = check_env(lambda: registry.make(env_id, **options), split=split)
    for rule in rules:
        typer.echo(f"ok  {rule.replace('_', ' ')}")
    typer.echo(f"{env_id} keeps all {len(rules)} rules.")
