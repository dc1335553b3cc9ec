"""`agentgym leaderboard`: ranks results by panel, or compares two of them task by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from agentgym_rft.errors import ConfigError
from agentgym_rft.report.terminal import say


def leaderboard_command(
    results: Annotated[
        list[str] | None, typer.Argument(help="Result files or run directories, each as PATH or NAME=PATH.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for leaderboard.md, .html and .json; default: Markdown to stdout.")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="YAML file of published results; default: benchmarks/published.yaml, if there.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Compare two results of the same panel instead, task by task.")
    ] = None,
) -> None:
    """Rank results by success, a table for each panel, with the literature's numbers in tables of their own."""
    if compare is not None:
        if results:
            raise ConfigError("--compare takes its two results itself: leave out the others.")
        _compare(*compare)
    elif results:
        _rank(results, out, published)
    else:
        raise ConfigError("Give the results to rank: files that `agentgym eval --out` wrote, or run directories.")


def _compare(first: str, second: str) -> None:
    from agentgym_rft.report.leaderboard import named_results
    from agentgym_rft.report.paired import compare, comparison_lines

    (name_a, a), (name_b, b) = named_results([first, second])
    names = (name_a, name_b) if name_a != name_b else (first, second)
    for line in comparison_lines(compare(a, b, names)):
        say(line)


def _rank(results: list[str], out: Path | None, published: Path | None) -> None:
    from agentgym_rft.report.leaderboard import board_json, make_boards, named_results
    from agentgym_rft.report.leaderboard_pages import INTRODUCTION, html, make_tables, markdown
    from agentgym_rft.report.published import default_path, read_published
    from agentgym_rft.store.files import write_atomically

    boards = make_boards(named_results(results))
    path = published or default_path()
    rows = [] if path is None else read_published(path, [str(board.protocol["env"]) for board in boards])
    tables = make_tables(boards, rows)
    text = f"# Leaderboard\n\n{INTRODUCTION}\n\n{markdown(tables)}"
    if out is None:
        say(text, nl=False)
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "leaderboard.md", text.encode(errors="backslashreplace"))
        write_atomically(out / "leaderboard.html", html(tables).encode(errors="backslashreplace"))
        write_atomically(out / "leaderboard.json", (json.dumps(board_json(boards, rows), indent=1) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"Cannot write to '{out}': {error.strerror}. Choose another --out.") from error
    say(str(out / "leaderboard.md"))
