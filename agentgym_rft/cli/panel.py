"""`agentgym panel`: writes a panel to a file, or shows one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from agentgym_rft.cli.settings import DEFAULT_ENV, check_out, fresh_config
from agentgym_rft.envs.ended import close_env
from agentgym_rft.envs.making import make_env
from agentgym_rft.envs.panels import Panel, held_out_panel, panel_text, quoted_split, read_panel
from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say
from agentgym_rft.store.files import write_atomically


def panel_command(
    action: Annotated[Literal["freeze", "show"], typer.Argument(help="freeze: write a panel file; show: print one.")],
    file: Annotated[Path | None, typer.Argument(help="show: a panel file, instead of --env and --split.")] = None,
    env: Annotated[str | None, typer.Option(help="Environment: id, short name, or module:Class.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; default: the environment's last.")] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="First tasks of the split; default: all.")] = None,
    data: Annotated[str | None, typer.Option(help="Data directory of the environment.")] = None,
    out: Annotated[Path | None, typer.Option(help="freeze: the file to write.")] = None,
) -> None:
    """Freeze the tasks of a split in a file, with the hash of each task's content, or show a panel.

    A panel that shares a task by content with the environment's training split is refused.
    """
    if action == "show":
        say(panel_text(_shown(file, env, split, tasks, data)), nl=False)
        return
    if out is None or file is not None:
        raise ConfigError("panel freeze writes a new file: name it with --out.")
    check_out(out)
    panel = _panel_of_split(env, split, tasks, data)
    write_atomically(out, panel_text(panel).encode())
    if panel.unchecked:
        say(panel.unchecked, err=True)
    say(f"panel {panel.panel_hash[:16]} ({len(panel)} tasks of {panel.split}): {out}")


def _shown(file: Path | None, env: str | None, split: str | None, tasks: int | None, data: str | None) -> Panel:
    if file is None:
        return _panel_of_split(env, split, tasks, data)
    if any(value is not None for value in (env, split, tasks, data)):
        raise ConfigError("panel show takes a file, or --env with --split, not both.")
    return read_panel(file)


def _panel_of_split(env: str | None, split: str | None, tasks: int | None, data: str | None) -> Panel:
    """Return the panel of a split, with the options of the environment's recipe."""
    section = fresh_config(env or DEFAULT_ENV, None, ()).env
    options = section.options | ({} if data is None else {"data": data})
    instance = make_env(section.id, options)
    try:
        return held_out_panel(instance, options, quoted_split(instance, split), tasks, env_id=section.id)
    finally:
        close_env(instance)
