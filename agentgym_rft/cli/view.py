"""`agentgym view`: the report of a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def view_command(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    trajectories: Annotated[int, typer.Option(min=0, help="Trajectories to show.")] = 6,
    browser: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Write the report of a run, report.html in its directory, and print its path."""
    from agentgym_rft.report.html import write_report

    path = write_report(run, trajectories)
    typer.echo(str(path))
    if browser:
        webbrowser.open(path.resolve().as_uri())
