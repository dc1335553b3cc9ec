"""`agentgym report`: draws several runs on the same axes."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.report.terminal import say


def report_command(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[Path | None, typer.Option(help="Page to write; default: comparison.html in the first run.")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Plot success and entropy of runs, and its predicted against its measured change, and print the page's path."""
    from agentgym_rft.cli.settings import check_out, place_in
    from agentgym_rft.report.comparison import write_comparison

    if out is not None:
        check_out(out)
    path = out or place_in(runs[0], "comparison.html")
    for outcome in write_comparison(runs, path):
        if outcome.r_weights is not None:
            say(f"{outcome.name}: predicted and measured change of entropy correlate, r = {outcome.r_weights:.3f}")
    say(str(path))
    if browser:
        webbrowser.open(path.resolve().as_uri())
