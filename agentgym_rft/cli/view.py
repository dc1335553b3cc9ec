"""`agentgym view`: the report of a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.report.terminal import say


def view_command(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    trajectories: Annotated[int, typer.Option(min=0, help="Trajectories to show.")] = 6,
    out: Annotated[Path | None, typer.Option(help="Page to write; default: report.html in the run.")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Write the report of a run and print its path: where the run may only be read, in the current folder."""
    from agentgym_rft.cli.settings import check_out, place_in
    from agentgym_rft.report.html import write_report

    if out is not None:
        check_out(out)
    path = write_report(run, trajectories, out or place_in(run, "report.html"))
    say(str(path))
    if browser:
        webbrowser.open(path.resolve().as_uri())
